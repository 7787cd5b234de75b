#include "agent/operation.hpp"

#include <unistd.h>

#include <array>
#include <climits>
#include <cstdlib>
#include <filesystem>
#include <utility>
#include <variant>

#include "agent/exec.hpp"
#include "agent/file_read.hpp"
#include "agent/file_write.hpp"
#include "agent/tcp_connect.hpp"

namespace noid::agent {
namespace {

namespace fs = std::filesystem;

// An operation that cannot even begin.
class Refused final : public Operation {
  public:
    Refused(proto::GuestSession& session, Error why, const char* kind, std::string path)
        : session_{session}, why_{std::move(why)}, kind_{kind}, path_{std::move(path)} {}
    void start() override { end_failed(session_, why_); }
    [[nodiscard]] const char* kind() const noexcept override { return kind_; }
    [[nodiscard]] std::string describe() const override { return path_; }

  private:
    proto::GuestSession& session_;
    Error why_;
    const char* kind_;
    std::string path_;
};

struct Tar {
    std::string program;
    bool is_gnu = false;  // busybox's knows fewer options
};

// The image's own.
Result<Tar> find_tar() {
    for (const char* directory : {"/usr/bin/", "/bin/", "/usr/local/bin/", "/usr/sbin/", "/sbin/"}) {
        Tar tar{.program = std::string{directory} + "tar"};
        if (::access(tar.program.c_str(), X_OK) != 0) continue;
        std::error_code error;
        const auto real = fs::canonical(tar.program, error).filename();
        tar.is_gnu = real != "busybox" && real != "toybox";
        return tar;
    }
    return fail(Errc::unsupported, "the image has no tar program, which directories are copied with");
}

Result<proto::Exec> tar_command(const proto::TarRead& request) {
    const fs::path path = request.path;
    if (!path.is_absolute()) return fail(Errc::invalid, "'" + request.path + "' is not absolute");
    std::error_code error;
    const auto status = fs::status(path, error);
    if (error) return fail_errno(error.value(), request.path);
    auto tar = find_tar();
    if (!tar) return fail(tar.error());
    proto::Exec exec;
    exec.argv = {tar->program};
    if (tar->is_gnu) exec.argv.emplace_back("--format=posix");
    const bool directory = fs::is_directory(status);
    exec.argv.insert(exec.argv.end(), {"-C", directory ? path.string() : path.parent_path().string(), "-cf",
                                       "-", "--", directory ? "." : path.filename().string()});
    exec.cwd = "/";
    exec.input = false;
    return exec;
}

Result<proto::Exec> tar_command(const proto::TarWrite& request) {
    const fs::path path = request.path;
    if (!path.is_absolute()) return fail(Errc::invalid, "'" + request.path + "' is not absolute");
    const auto account = find_account(request.user);
    if (!account) return fail(account.error());
    auto tar = find_tar();
    if (!tar) return fail(tar.error());
    std::error_code error;
    if (fs::create_directories(path, error)) {
        if (account->uid != ::geteuid() && ::chown(path.c_str(), account->uid, account->gid) != 0)
            return fail_errno(errno, "give '" + request.path + "' to '" + account->name + "'");
    } else if (error) {
        return fail_errno(error.value(), "make directory '" + request.path + "'");
    }
    proto::Exec exec;
    // Both kinds of tar strip a leading "/" and refuse "..".
    exec.argv = {tar->program, "-C", path.string(), "-xf", "-"};
    // A named owner gets everything, root what the archive says.
    if (!request.user.empty()) exec.argv.emplace_back("-o");
    exec.user = request.user;
    exec.cwd = "/";
    return exec;
}

template <class Request>
std::unique_ptr<Operation> make_tar(Context& context, proto::GuestSession& session, const Request& request,
                                    const char* kind) {
    auto command = tar_command(request);
    if (!command) return std::make_unique<Refused>(session, command.error(), kind, request.path);
    return std::make_unique<Exec>(context, session, std::move(*command), kind);
}

}  // namespace

std::unique_ptr<Operation> make_operation(Context& context, proto::GuestSession& session,
                                          proto::Operation wanted) {
    const auto make = [&]<class T>(T& request) -> std::unique_ptr<Operation> {
        if constexpr (std::is_same_v<T, proto::Exec>) {
            return std::make_unique<Exec>(context, session, std::move(request));
        } else if constexpr (std::is_same_v<T, proto::FileRead>) {
            return std::make_unique<FileRead>(context, session, std::move(request));
        } else if constexpr (std::is_same_v<T, proto::FileWrite>) {
            return std::make_unique<FileWrite>(context, session, std::move(request));
        } else if constexpr (std::is_same_v<T, proto::TarRead>) {
            return make_tar(context, session, request, "tar-read");
        } else if constexpr (std::is_same_v<T, proto::TarWrite>) {
            return make_tar(context, session, request, "tar-write");
        } else {
            return std::make_unique<TcpConnect>(context, session, std::move(request));
        }
    };
    return std::visit(make, wanted);
}

void end_failed(proto::GuestSession& session, const Error& error) {
    session.end({.how = proto::SessionEnd::How::failed,
                 .status = 0,
                 .errc = static_cast<std::uint8_t>(error.code),
                 .message = error.what});
}

}  // namespace noid::agent
