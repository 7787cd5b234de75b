#include "agent/file_write.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <utility>

#include "agent/accounts.hpp"
#include "base/random.hpp"

namespace noid::agent {

using proto::OutputStream;

// The temporary file, beside its place. Unlinked unless it was published.
struct FileWrite::File {
    Fd directory;
    std::string name;
    std::string temporary;
    Fd contents;
    bool published = false;

    File() = default;
    File(const File&) = delete;
    File& operator=(const File&) = delete;
    ~File() {
        if (contents && !published) ::unlinkat(directory.get(), temporary.c_str(), 0);
    }

    // Blocks until it is on disk.
    [[nodiscard]] Result<void> publish() {
        if (::fsync(contents.get()) != 0) return fail_errno(errno, "write '" + name + "'");
        if (::renameat(directory.get(), temporary.c_str(), directory.get(), name.c_str()) != 0)
            return fail_errno(errno, "replace '" + name + "'");
        published = true;
        if (::fsync(directory.get()) != 0) return fail_errno(errno, "write the directory of '" + name + "'");
        return {};
    }
};

FileWrite::FileWrite(Context& context, proto::GuestSession& session, proto::FileWrite request)
    : context_{context}, session_{session}, request_{std::move(request)} {}

Result<std::shared_ptr<FileWrite::File>> FileWrite::create() const {
    namespace fs = std::filesystem;
    fs::path path = request_.path;
    if (!path.is_absolute() || !path.has_filename())
        return fail(Errc::invalid, "'" + request_.path + "' is not an absolute file name");
    const auto account = find_account(request_.user);
    if (!account) return fail(account.error());

    std::error_code error;
    // What a symbolic link points to is replaced, not the link.
    if (fs::is_symlink(path, error)) {
        if (auto target = fs::canonical(path, error); !error) path = std::move(target);
    }
    if (fs::is_directory(path, error)) return fail(Errc::invalid, "'" + request_.path + "' is a directory");
    if (request_.make_parents && !fs::create_directories(path.parent_path(), error) && error)
        return fail_errno(error.value(), "make the directory of '" + request_.path + "'");

    auto file = std::make_shared<File>();
    file->directory.reset(::open(path.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!file->directory) return fail_errno(errno, "the directory of '" + request_.path + "'");
    file->name = path.filename();
    file->temporary = ".noid-" + random_hex(8);
    file->contents.reset(::openat(file->directory.get(), file->temporary.c_str(),
                                  O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!file->contents) return fail_errno(errno, "create '" + request_.path + "'");
    if ((account->uid != ::geteuid() || account->gid != ::getegid()) &&
        ::fchown(file->contents.get(), account->uid, account->gid) != 0)
        return fail_errno(errno, "give '" + request_.path + "' to '" + account->name + "'");
    if (::fchmod(file->contents.get(), request_.mode & 07777) != 0)
        return fail_errno(errno, "set the mode of '" + request_.path + "'");
    return file;
}

void FileWrite::start() {
    auto file = create();
    if (!file) return end_failed(session_, file.error());
    file_ = std::move(*file);
    session_.opened({});
    on_input();
}

void FileWrite::fail_now(const Error& error) {
    file_.reset();
    end_failed(session_, error);
}

void FileWrite::on_input() {
    while (file_ && !session_.waiting_input().empty()) {
        const auto bytes = session_.waiting_input();
        const ssize_t put = ::write(file_->contents.get(), bytes.data(), bytes.size());
        if (put < 0 && errno != EINTR)
            return fail_now(fail_errno(errno, "write '" + request_.path + "'").error());
        if (put > 0) session_.input_taken(static_cast<std::size_t>(put));
    }
    if (file_ && session_.input_finished()) publish();
}

void FileWrite::publish() {
    struct Outcome {
        std::shared_ptr<File> file;
        Result<void> result;
    };
    auto outcome = std::make_shared<Outcome>();
    outcome->file = std::move(file_);
    // The session may be gone when the disk is done with it.
    const auto done = [&context = context_, id = session_.id(), outcome] {
        proto::GuestSession* const session = context.find_session(id);
        if (!session) return;
        if (outcome->result)
            session->end({});
        else
            end_failed(*session, outcome->result.error());
    };
    context_.loop.run_blocking([outcome] { outcome->result = outcome->file->publish(); }, done);
}

}  // namespace noid::agent
