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
#include "cli/local_input.hpp"
#include "cli/local_output.hpp"
#include "cli/new_file.hpp"
#include "cli/progress.hpp"
#include "cli/tree_archive.hpp"
#include "cli/vm_request.hpp"

namespace noid::cli {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using boost::system::error_code;

// A transfer that stands still for so long has failed: between two pieces, and at the end, where the
// guest brings everything to its disk.
constexpr auto standstill_limit = 300'000ms;

std::string guest_target(const VmOnServer& vm, std::string_view kind, std::string_view path) {
    return fmt::format("{}/{}?path={}", vm.target, kind, encode_query_value(path));
}

struct Transfer {
    const Context& context;
    const VmOnServer& vm;
    ProgressBar& progress;
    std::uint64_t bytes = 0;

    void advance(std::uint64_t count) {
        bytes += count;
        progress.advance(count);
    }
};

enum class GuestPath : std::uint8_t { missing, file, directory };

// What is at `path` in the VM.
Awaitable<Result<GuestPath>> look_up(const VmOnServer& vm, const std::string& path) {
    auto answer = co_await vm.client.call(HttpRequest{HttpMethod::head, guest_target(vm, "files", path)});
    if (answer) co_return GuestPath::file;
    if (answer.error().code == Errc::invalid) co_return GuestPath::directory;
    // A VM that is missing is reported by the transfer itself.
    if (answer.error().code == Errc::not_found) co_return GuestPath::missing;
    co_return fail(answer.error());
}

void report_skipped(const std::vector<std::string>& skipped) {
    for (const auto& path : skipped)
        print_notice(fmt::format("warning: '{}' is no file or directory: left out", printable(path)));
}

// Towards the guest.

Awaitable<Result<void>> upload_bytes(Transfer& transfer, int fd, std::optional<std::uint64_t> size,
                                     mode_t mode, const std::string& path) {
    auto input = LocalInput::open(transfer.context.executor, fd);
    if (!input) co_return fail(input.error());
    const auto read = [&](std::span<char> out) -> Awaitable<Result<std::size_t>> {
        auto bytes = co_await input->read(out.size());
        if (!bytes) co_return fail(bytes.error());
        std::ranges::copy(*bytes, out.begin());
        transfer.advance(bytes->size());
        co_return bytes->size();
    };
    HttpRequest request{HttpMethod::put,
                        fmt::format("{}&mode={:o}", guest_target(transfer.vm, "files", path), mode & 0777)};
    request.upload = read;
    request.upload_size = size;
    request.read_timeout = standstill_limit;
    auto answer = co_await transfer.vm.client.call(std::move(request));
    if (!answer) co_return fail(answer.error());
    co_return Result<void>{};
}

Awaitable<Result<void>> upload_tree(Transfer& transfer, const fs::path& from, const std::string& path) {
    auto packer = TreePacker::open(from);
    if (!packer) co_return fail(packer.error());
    const auto read = [&](std::span<char> out) -> Awaitable<Result<std::size_t>> {
        auto count = packer->read(out);
        if (count) transfer.advance(*count);
        co_return count;
    };
    HttpRequest request{HttpMethod::put, guest_target(transfer.vm, "archive", path)};
    request.upload = read;
    request.read_timeout = standstill_limit;
    auto answer = co_await transfer.vm.client.call(std::move(request));
    if (!answer) co_return fail(answer.error());
    report_skipped(packer->skipped());
    co_return Result<void>{};
}

Awaitable<Result<void>> upload(Transfer& transfer, const CopyPlace& from, std::string path) {
    if (from.where == CopyPlace::Where::standard_stream) {
        if (path.ends_with('/')) co_return fail(Errc::invalid, "what comes from stdin needs a file name");
        co_return co_await upload_bytes(transfer, STDIN_FILENO, std::nullopt, 0644, path);
    }
    // Not blocking: opening a pipe would wait for its writer.
    auto file = open_file(from.path, O_RDONLY | O_NONBLOCK);
    if (!file) co_return fail(file.error());
    struct stat info {};
    if (::fstat(file->get(), &info) != 0) co_return fail_errno(errno, from.path);
    std::error_code unresolved;
    const auto source = fs::canonical(from.path, unresolved);  // "." has a name too
    if (unresolved) co_return fail_errno(unresolved.value(), from.path);
    auto there = co_await look_up(transfer.vm, path);
    if (!there) co_return fail(there.error());
    if (*there == GuestPath::directory || path.ends_with('/'))
        path = join_path(path, last_component(source.native()));
    if (S_ISDIR(info.st_mode)) {
        if (*there == GuestPath::file)
            co_return fail(Errc::conflict,
                           fmt::format("'{}' in the VM is a file, '{}' a directory", path, from.path));
        co_return co_await upload_tree(transfer, source, path);
    }
    const bool sized = S_ISREG(info.st_mode) && info.st_size > 0;
    co_return co_await upload_bytes(
        transfer, file->get(), sized ? std::optional{static_cast<std::uint64_t>(info.st_size)} : std::nullopt,
        info.st_mode, path);
}

// From the guest.

mode_t mode_of(const HttpAnswer& head) {
    const auto text = head.header("X-Noid-File-Mode").value_or("");
    unsigned mode = 0;
    const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), mode, 8);
    return failure == std::errc{} && end == text.data() + text.size() ? mode & 0777 : 0644;
}

Awaitable<Result<void>> download_to(Transfer& transfer, const std::string& path,
                                    std::function<Result<int>(const HttpAnswer&)> open_output) {
    std::optional<LocalOutput> output;
    const auto begin = [&](const HttpAnswer& head) -> Result<void> {
        auto fd = open_output(head);
        if (!fd) return fail(fd.error());
        auto opened = LocalOutput::open(transfer.context.executor, *fd);
        if (!opened) return fail(opened.error());
        output.emplace(std::move(*opened));
        return {};
    };
    const auto write = [&](std::string_view bytes) -> Awaitable<Result<void>> {
        auto written = co_await output->write(bytes);
        if (written) transfer.advance(bytes.size());
        co_return written;
    };
    HttpRequest request{HttpMethod::get, guest_target(transfer.vm, "files", path)};
    request.begin_download = begin;
    request.download = write;
    request.read_timeout = standstill_limit;
    auto answer = co_await transfer.vm.client.call(std::move(request));
    if (!answer) co_return fail(answer.error());
    co_return Result<void>{};
}

Awaitable<Result<void>> download_file(Transfer& transfer, const std::string& path, const fs::path& to) {
    NewFile file{to};
    const auto create = [&](const HttpAnswer& head) { return file.create(mode_of(head)); };
    auto downloaded = co_await download_to(transfer, path, create);
    if (!downloaded) co_return downloaded;
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

Awaitable<Result<void>> download_tree(Transfer& transfer, const std::string& path, const fs::path& to) {
    std::unique_ptr<Unpacking> unpacking;
    bool unpacking_failed = false;
    const auto begin = [&](const HttpAnswer&) -> Result<void> {
        std::error_code failure;
        const bool made = fs::create_directory(to, failure);
        if (failure) return fail_errno(failure.value(), fmt::format("cannot make '{}'", to.native()));
        auto started =
            Unpacking::start(transfer.context.executor, to, made ? RootEntry::applied : RootEntry::ignored);
        if (!started) return fail(started.error());
        unpacking = std::move(*started);
        return {};
    };
    const auto write = [&](std::string_view bytes) -> Awaitable<Result<void>> {
        auto written = co_await unpacking->write(bytes);
        unpacking_failed = !written;
        if (written) transfer.advance(bytes.size());
        co_return written;
    };
    HttpRequest request{HttpMethod::get, guest_target(transfer.vm, "archive", path)};
    request.begin_download = begin;
    request.download = write;
    request.read_timeout = standstill_limit;
    auto answer = co_await transfer.vm.client.call(std::move(request));
    if (!unpacking)
        co_return fail(answer ? Error{Errc::corrupt, "the server sent no archive", {}} : answer.error());
    auto unpacked = co_await unpacking->finish();
    if (!answer && !unpacking_failed) co_return fail(answer.error());
    if (!unpacked) co_return fail(unpacked.error());
    report_skipped(unpacked->skipped);
    co_return Result<void>{};
}

Awaitable<Result<void>> download(Transfer& transfer, const std::string& path, const CopyPlace& to) {
    if (to.where == CopyPlace::Where::standard_stream) {
        const auto use_stdout = [](const HttpAnswer&) -> Result<int> { return STDOUT_FILENO; };
        co_return co_await download_to(transfer, path, use_stdout);
    }
    std::error_code failure;
    fs::path place = to.path;
    if (fs::is_directory(place, failure))
        place /= last_component(path);
    else if (to.path.ends_with('/'))
        co_return fail(Errc::not_found, fmt::format("'{}' is no directory", to.path));
    auto there = co_await look_up(transfer.vm, path);
    if (!there) co_return fail(there.error());
    if (*there == GuestPath::directory) co_return co_await download_tree(transfer, path, place);
    co_return co_await download_file(transfer, path, place);
}

// A coroutine of its own: g++ 12 destroys results that execute() would await in two branches twice.
Awaitable<Result<void>> copy(Transfer& transfer, const CopyPlace& from, const CopyPlace& to) {
    if (from.where == CopyPlace::Where::guest) co_return co_await download(transfer, from.path, to);
    co_return co_await upload(transfer, from, to.path);
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
    Transfer transfer{context, *vm, progress};
    auto copied = co_await copy(transfer, *from, *to);
    if (!copied) co_return fail(copied.error());
    // Under --json stdout is for the result, unless the file itself goes there.
    if (context.json && to->where != standard_stream) {
        print_line(boost::json::serialize(
            boost::json::object{{"from", command.from}, {"to", command.to}, {"bytes", transfer.bytes}}));
    }
    co_return 0;
}

}  // namespace noid::cli
