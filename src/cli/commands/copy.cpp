#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/write.hpp>
#include <boost/json.hpp>
#include <charconv>
#include <filesystem>

#include "base/fd.hpp"
#include "base/file.hpp"
#include "cli/commands/execute.hpp"
#include "cli/copy_place.hpp"
#include "cli/failure.hpp"
#include "cli/guest_transfer.hpp"
#include "cli/local_input.hpp"
#include "cli/local_output.hpp"
#include "cli/new_file.hpp"
#include "cli/progress.hpp"
#include "cli/tree_archive.hpp"
#include "cli/vm_request.hpp"

namespace noid::cli {
namespace {

namespace fs = std::filesystem;
using boost::system::error_code;

using Operation = RemoteSession::Transfer::Operation;

// One `noid cp`.
struct Copying {
    const Context& context;
    const VmOnServer& vm;
    ProgressBar& progress;
    std::uint64_t bytes = 0;
    int ended_by = 0;  // a signal

    void advance(std::uint64_t count) {
        bytes += count;
        progress.advance(count);
    }

    // False: a signal has ended it.
    Awaitable<Result<bool>> move(Operation operation, std::string path, TransferEnd local,
                                 unsigned mode = 0644) {
        RemoteSession::Transfer what{operation, std::move(path), mode};
        auto outcome = co_await transfer(context, vm, std::move(what), std::move(local));
        if (!outcome) co_return fail(outcome.error());
        ended_by = outcome->ended_by;
        co_return ended_by == 0;
    }
};

// What is at a path in the VM.
struct GuestPath {
    enum class Kind : std::uint8_t { missing, file, directory } kind = Kind::missing;
    mode_t mode = 0644;
    std::uint64_t size = 0;  // 0 also where it is not known
};

template <class T>
T number_in(const HttpAnswer& head, std::string_view header, int base, T otherwise) {
    const auto text = head.header(header).value_or("");
    T number{};
    const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), number, base);
    return failure == std::errc{} && end == text.data() + text.size() ? number : otherwise;
}

Awaitable<Result<GuestPath>> look_up(const VmOnServer& vm, const std::string& path) {
    using Kind = GuestPath::Kind;
    const auto target = fmt::format("{}/files?path={}", vm.target, encode_query_value(path));
    auto answer = co_await vm.client.call(HttpRequest{HttpMethod::head, target});
    if (answer) {
        co_return GuestPath{Kind::file, number_in<mode_t>(*answer, "X-Noid-File-Mode", 8, 0644) & 0777,
                            number_in<std::uint64_t>(*answer, "Content-Length", 10, 0)};
    }
    if (answer.error().code == Errc::invalid) co_return GuestPath{Kind::directory};
    // A VM that is missing is reported by the transfer itself.
    if (answer.error().code == Errc::not_found) co_return GuestPath{};
    co_return fail(answer.error());
}

void report_skipped(const std::vector<std::string>& skipped) {
    for (const auto& path : skipped)
        print_notice(fmt::format("warning: '{}' is no file or directory: left out", printable(path)));
}

// Towards the guest.

Awaitable<Result<void>> upload_bytes(Copying& copying, int fd, mode_t mode, const std::string& path) {
    auto input = LocalInput::open(copying.context.executor, fd);
    if (!input) co_return fail(input.error());
    const auto read = [&](std::span<char> out) -> Awaitable<Result<std::size_t>> {
        auto bytes = co_await input->read(out.size());
        if (!bytes) co_return fail(bytes.error());
        std::ranges::copy(*bytes, out.begin());
        copying.advance(bytes->size());
        co_return bytes->size();
    };
    TransferEnd local{.source = read, .sink = {}};
    auto moved = co_await copying.move(Operation::write_file, path, std::move(local), mode & 0777);
    if (!moved) co_return fail(moved.error());
    co_return Result<void>{};
}

Awaitable<Result<void>> upload_tree(Copying& copying, const fs::path& from, const std::string& path) {
    auto packer = TreePacker::open(from);
    if (!packer) co_return fail(packer.error());
    const auto read = [&](std::span<char> out) -> Awaitable<Result<std::size_t>> {
        auto count = packer->read(out);
        if (count) copying.advance(*count);
        co_return count;
    };
    TransferEnd local{.source = read, .sink = {}};
    auto moved = co_await copying.move(Operation::write_archive, path, std::move(local));
    if (!moved) co_return fail(moved.error());
    report_skipped(packer->skipped());
    co_return Result<void>{};
}

Awaitable<Result<void>> upload(Copying& copying, const CopyPlace& from, std::string path) {
    if (from.where == CopyPlace::Where::standard_stream) {
        if (path.ends_with('/')) co_return fail(Errc::invalid, "what comes from stdin needs a file name");
        co_return co_await upload_bytes(copying, STDIN_FILENO, 0644, path);
    }
    // Not blocking: opening a pipe would wait for its writer.
    auto file = open_file(from.path, O_RDONLY | O_NONBLOCK);
    if (!file) co_return fail(file.error());
    struct stat info {};
    if (::fstat(file->get(), &info) != 0) co_return fail_errno(errno, from.path);
    std::error_code unresolved;
    const auto source = fs::canonical(from.path, unresolved);  // "." has a name too
    if (unresolved) co_return fail_errno(unresolved.value(), from.path);
    auto there = co_await look_up(copying.vm, path);
    if (!there) co_return fail(there.error());
    if (there->kind == GuestPath::Kind::directory || path.ends_with('/'))
        path = join_path(path, last_component(source.native()));
    if (S_ISDIR(info.st_mode)) {
        if (there->kind == GuestPath::Kind::file)
            co_return fail(Errc::conflict,
                           fmt::format("'{}' in the VM is a file, '{}' a directory", path, from.path));
        co_return co_await upload_tree(copying, source, path);
    }
    co_return co_await upload_bytes(copying, file->get(), info.st_mode, path);
}

// From the guest.

Awaitable<Result<void>> download_to(Copying& copying, const std::string& path, const GuestPath& there,
                                    int fd) {
    auto output = LocalOutput::open(copying.context.executor, fd);
    if (!output) co_return fail(output.error());
    const auto write = [&](std::string_view bytes) -> Awaitable<Result<void>> {
        auto written = co_await output->write(bytes);
        if (written) copying.advance(bytes.size());
        co_return written;
    };
    TransferEnd local{.source = {}, .sink = write};
    auto moved = co_await copying.move(Operation::read_file, path, std::move(local));
    if (!moved) co_return fail(moved.error());
    if (*moved && copying.bytes < there.size)
        co_return fail(Errc::conflict, fmt::format("'{}' became shorter while it was read", path));
    co_return Result<void>{};
}

Awaitable<Result<void>> download_file(Copying& copying, const std::string& path, const GuestPath& there,
                                      const fs::path& to) {
    NewFile file{to};
    auto fd = file.create(there.mode);
    if (!fd) co_return fail(fd.error());
    auto downloaded = co_await download_to(copying, path, there, *fd);
    if (!downloaded || copying.ended_by != 0) co_return downloaded;
    co_return file.publish();
}

// Unpacks on a thread what write() is given.
class Unpacking {
  public:
    [[nodiscard]] static Result<std::unique_ptr<Unpacking>> start(const asio::any_io_executor& executor,
                                                                  fs::path directory, RootEntry root) {
        int ends[2];
        if (::pipe2(ends, O_CLOEXEC) != 0) return fail_errno(errno, "cannot make a pipe");
        Fd from{ends[0]};
        const int to = ends[1];
        ::fcntl(to, F_SETFL, O_NONBLOCK);
        auto unpacking = std::make_unique<Unpacking>(asio::posix::stream_descriptor{executor, to});
        asio::post(unpacking->pool_,
                   [&result = unpacking->result_, from = std::move(from), directory = std::move(directory),
                    root]() mutable { result = unpack_tree(std::move(from), directory, root); });
        return unpacking;
    }
    explicit Unpacking(asio::posix::stream_descriptor pipe) : pipe_{std::move(pipe)} {}

    // Fails when the unpacking has: finish() says why.
    Awaitable<Result<void>> write(std::string_view bytes) {
        error_code failure;
        co_await asio::async_write(pipe_, asio::buffer(bytes),
                                   asio::redirect_error(asio::use_awaitable, failure));
        if (failure) co_return fail_errno(failure.value(), "cannot unpack");
        co_return Result<void>{};
    }
    // Ends the stream and waits for the outcome.
    Awaitable<Result<Unpacked>> finish() {
        pipe_.close();
        auto take = [this] { return std::move(result_); };  // behind the unpacking on the only thread
        co_return co_await on_pool(pool_, take);
    }

  private:
    Result<Unpacked> result_ = fail(Errc::internal, "nothing was unpacked");
    asio::thread_pool pool_{1};  // ends once the pipe, which goes first, is closed
    asio::posix::stream_descriptor pipe_;
};

Awaitable<Result<void>> download_tree(Copying& copying, const std::string& path, const fs::path& to) {
    std::error_code failure;
    const bool made = fs::create_directory(to, failure);
    if (failure) co_return fail_errno(failure.value(), fmt::format("cannot make '{}'", to.native()));
    auto unpacking =
        Unpacking::start(copying.context.executor, to, made ? RootEntry::applied : RootEntry::ignored);
    if (!unpacking) co_return fail(unpacking.error());
    bool unpacking_failed = false;
    const auto write = [&](std::string_view bytes) -> Awaitable<Result<void>> {
        auto written = co_await (*unpacking)->write(bytes);
        unpacking_failed = !written;
        if (written) copying.advance(bytes.size());
        co_return written;
    };
    TransferEnd local{.source = {}, .sink = write};
    auto moved = co_await copying.move(Operation::read_archive, path, std::move(local));
    auto unpacked = co_await (*unpacking)->finish();
    if (!moved && made) fs::remove(to, failure);  // as long as nothing came
    if (copying.ended_by != 0) co_return Result<void>{};
    if (!moved && !unpacking_failed) co_return fail(moved.error());
    if (!unpacked) co_return fail(unpacked.error());
    report_skipped(unpacked->skipped);
    co_return Result<void>{};
}

Awaitable<Result<void>> download(Copying& copying, const std::string& path, const CopyPlace& to) {
    auto there = co_await look_up(copying.vm, path);
    if (!there) co_return fail(there.error());
    copying.progress.expect(there->size);
    if (to.where == CopyPlace::Where::standard_stream)
        co_return co_await download_to(copying, path, *there, STDOUT_FILENO);
    std::error_code failure;
    fs::path place = to.path;
    if (fs::is_directory(place, failure))
        place /= last_component(path);
    else if (to.path.ends_with('/'))
        co_return fail(Errc::not_found, fmt::format("'{}' is no directory", to.path));
    if (there->kind == GuestPath::Kind::directory) co_return co_await download_tree(copying, path, place);
    co_return co_await download_file(copying, path, *there, place);
}

// A coroutine of its own: g++ 12 destroys results that execute() would await in two branches twice.
Awaitable<Result<void>> copy(Copying& copying, const CopyPlace& from, const CopyPlace& to) {
    if (from.where == CopyPlace::Where::guest) co_return co_await download(copying, from.path, to);
    co_return co_await upload(copying, from, to.path);
}

std::optional<std::uint64_t> size_of_source(const CopyPlace& from) {
    std::error_code failure;
    if (from.where != CopyPlace::Where::host || !fs::is_regular_file(from.path, failure)) return std::nullopt;
    const auto size = fs::file_size(from.path, failure);
    return failure ? std::nullopt : std::optional{static_cast<std::uint64_t>(size)};
}

}  // namespace

Awaitable<Result<int>> execute(const Context& context, Copy command) {
    auto from = CopyPlace::parse(command.from);
    if (!from) co_return fail(from.error());
    auto to = CopyPlace::parse(command.to);
    if (!to) co_return fail(to.error());
    using enum CopyPlace::Where;
    if ((from->where == guest) == (to->where == guest)) {
        co_return fail(
            Errc::invalid,
            from->where == guest
                ? "both sides are in VMs: copy by way of this machine, as noid cp A:/X - | noid cp - B:/X"
                : "neither side is in a VM: write the one that is as NAME:/PATH");
    }
    auto vm = find_vm(context, from->where == guest ? from->vm : to->vm);
    if (!vm) co_return fail(vm.error());
    ProgressBar progress{fmt::format("{} -> {}", command.from, command.to), size_of_source(*from),
                         can_draw_progress(context.json) && to->where != standard_stream};
    Copying copying{context, *vm, progress};
    auto copied = co_await copy(copying, *from, *to);
    if (!copied) co_return fail(copied.error());
    if (copying.ended_by != 0) co_return 128 + copying.ended_by;
    // Under --json stdout is for the result, unless the file itself goes there.
    if (context.json && to->where != standard_stream) {
        print_line(boost::json::serialize(
            boost::json::object{{"from", command.from}, {"to", command.to}, {"bytes", copying.bytes}}));
    }
    co_return 0;
}

}  // namespace noid::cli
