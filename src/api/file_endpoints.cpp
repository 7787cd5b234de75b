#include <fmt/format.h>

#include <charconv>
#include <limits>

#include "api/endpoint_input.hpp"
#include "api/endpoints.hpp"
#include "api/guest_session.hpp"
#include "api/session_stream.hpp"
#include "wire/names.hpp"

namespace noid::api {

// Operations are variables of their own: g++ 12 destroys an aggregate twice that is written inside a
// co_await expression.
namespace {

using channel::Session;

constexpr std::uint64_t no_end = std::numeric_limits<std::uint64_t>::max();

// A transfer out of the guest. Cancelled in the guest unless it ran to its end.
class Download {
  public:
    [[nodiscard]] static Awaitable<Result<std::unique_ptr<Download>>> open(std::shared_ptr<vm::Vm> machine,
                                                                           proto::Operation operation) {
        proto::SessionSpec spec;
        spec.operation = std::move(operation);
        auto session = co_await machine->open(std::move(spec));
        if (!session) co_return fail(std::move(session).error());
        auto download = std::make_unique<Download>(std::move(machine), std::move(*session));
        // The guest's first word says whether there is anything to send: before the answer's status.
        while (true) {
            auto event = co_await next_event(download->strand_, download->session_);
            if (!event) co_return fail(std::move(event).error());
            if (const auto* opened = std::get_if<Session::Opened>(&*event)) {
                download->stat_ = opened->file;
                break;
            }
            if (const auto* ended = std::get_if<Session::Ended>(&*event)) {
                download->guard_.on_exit(SessionGuard::Leave::nothing);
                if (auto end = transfer_end(*ended); !end) co_return fail(std::move(end).error());
                co_return fail(Errc::corrupt, "the guest ended the transfer before it began");
            }
        }
        co_return download;
    }

    Download(std::shared_ptr<vm::Vm> machine, std::shared_ptr<Session> session)
        : machine_{std::move(machine)},
          strand_{machine_->strand()},
          session_{std::move(session)},
          guard_{strand_, session_} {}

    [[nodiscard]] const std::optional<proto::FileStat>& stat() const noexcept { return stat_; }

    // Writes at most `limit` bytes. An error when the guest gave fewer than `least`.
    Awaitable<Result<void>> copy(Exchange& exchange, std::uint64_t least, std::uint64_t limit) {
        std::uint64_t copied = 0;
        while (copied < limit) {
            auto event = co_await next_event(strand_, session_);
            if (!event) co_return fail(std::move(event).error());
            if (const auto* ended = std::get_if<Session::Ended>(&*event)) {
                guard_.on_exit(SessionGuard::Leave::nothing);
                if (auto end = transfer_end(*ended); !end) co_return fail(std::move(end).error());
                if (copied < least)
                    co_return fail(Errc::conflict, "the file became shorter while it was read");
                co_return Result<void>{};
            }
            const auto* output = std::get_if<Session::Output>(&*event);
            if (output == nullptr) continue;
            const std::string_view bytes = std::string_view{output->bytes}.substr(0, limit - copied);
            if (auto written = co_await exchange.write(bytes); !written)
                co_return fail(std::move(written).error());
            copied += bytes.size();
            acknowledge(strand_, session_, output->stream, output->offset + output->bytes.size());
        }
        co_return Result<void>{};
    }

  private:
    std::shared_ptr<vm::Vm> machine_;
    asio::any_io_executor strand_;
    std::shared_ptr<Session> session_;
    SessionGuard guard_;
    std::optional<proto::FileStat> stat_;
};

// Waits for the end of a transfer into the guest.
Awaitable<Result<bool>> await_end(const asio::any_io_executor& strand, std::shared_ptr<Session> session) {
    while (true) {
        auto event = co_await next_event(strand, session);
        if (!event) co_return fail(std::move(event).error());
        const auto* ended = std::get_if<Session::Ended>(&*event);
        if (ended == nullptr) continue;
        if (auto end = transfer_end(*ended); !end) co_return fail(std::move(end).error());
        co_return true;
    }
}

// The request's body into the session, then its end. Never returns when that worked: the guest's
// word decides.
Awaitable<Result<bool>> send_body(Exchange& exchange, const asio::any_io_executor& strand,
                                  std::shared_ptr<Session> session) {
    while (true) {
        auto piece = co_await exchange.read_some();
        if (!piece) co_return fail(std::move(piece).error());
        if (piece->empty()) break;
        // A session that takes no more has failed; await_end() knows why.
        if (auto written = co_await write_input(strand, session, std::move(*piece)); !written) {
            co_await wait_for_cancellation();
        }
    }
    close_input(strand, session);
    co_await wait_for_cancellation();
    co_return true;
}

Awaitable<Result<Response>> upload(Call& call, vm::Vm& machine, proto::Operation operation) {
    proto::SessionSpec spec;
    spec.operation = std::move(operation);
    auto session = co_await machine.open(std::move(spec));
    if (!session) co_return fail(std::move(session).error());
    const auto strand = machine.strand();
    SessionGuard guard{strand, *session};  // a broken upload leaves no half file
    const auto executor = co_await asio::this_coro::executor;
    auto group = asio::experimental::make_parallel_group(
        asio::co_spawn(executor, await_end(strand, *session), asio::deferred),
        asio::co_spawn(executor, send_body(call.exchange, strand, *session), asio::deferred));
    auto [order, end_thrown, ended, send_thrown, sent] =
        co_await group.async_wait(asio::experimental::wait_for_one(), asio::use_awaitable);
    if (const std::exception_ptr thrown = order[0] == 0 ? end_thrown : send_thrown)
        std::rethrow_exception(thrown);
    if (order[0] == 0) guard.on_exit(SessionGuard::Leave::nothing);
    const Result<bool>& outcome = order[0] == 0 ? ended : sent;
    if (!outcome) co_return fail(outcome.error());
    co_return Response::no_content();
}

Result<std::string> owner_parameter(const Target& target) {
    const std::string_view user = target.find("user").value_or("");
    if (user.size() > 64) return fail(Errc::invalid, "parameter 'user' must be a name or UID[:GID]");
    return std::string{user};
}

Result<std::uint32_t> mode_parameter(const Target& target) {
    const auto text = target.find("mode");
    if (!text) return 0644;
    std::uint32_t mode = 0;
    const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), mode, 8);
    if (error != std::errc{} || end != text->data() + text->size() || mode > 07777)
        return fail(Errc::invalid, "parameter 'mode' must be octal, from 0 to 7777");
    return mode;
}

Result<proto::Operation> write_operation(const Target& target, std::string path) {
    const auto mode = mode_parameter(target);
    if (!mode) return fail(mode.error());
    auto user = owner_parameter(target);
    if (!user) return fail(std::move(user).error());
    const auto parents = flag_parameter(target, "parents");
    if (!parents) return fail(parents.error());
    return proto::FileWrite{std::move(path), *mode, std::move(*user), *parents};
}

Result<proto::Operation> unpack_operation(const Target& target, std::string path) {
    auto user = owner_parameter(target);
    if (!user) return fail(std::move(user).error());
    return proto::TarWrite{std::move(path), std::move(*user)};
}

// The parameter `operation` of a transfer over a WebSocket.
Result<proto::Operation> named_operation(const Target& target, std::string path) {
    const std::string_view name = target.find("operation").value_or("");
    if (name == "read-file") return proto::FileRead{std::move(path), 0};
    if (name == "write-file") return write_operation(target, std::move(path));
    if (name == "read-archive") return proto::TarRead{std::move(path)};
    if (name == "write-archive") return unpack_operation(target, std::move(path));
    return fail(Errc::invalid,
                "parameter 'operation' must be read-file, write-file, read-archive or write-archive");
}

// "bytes=FIRST-" or "bytes=FIRST-LAST". Other forms are ignored, as RFC 9110 allows.
struct ByteRange {
    std::uint64_t first = 0;
    std::optional<std::uint64_t> last;
};
std::optional<ByteRange> parse_range(std::string_view text) {
    if (!text.starts_with("bytes=")) return std::nullopt;
    text.remove_prefix(6);
    ByteRange range;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), range.first);
    if (error != std::errc{} || end == text.data() + text.size() || *end != '-') return std::nullopt;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()) + 1);
    if (text.empty()) return range;
    std::uint64_t last = 0;
    const auto [last_end, last_error] = std::from_chars(text.data(), text.data() + text.size(), last);
    if (last_error != std::errc{} || last_end != text.data() + text.size() || last < range.first ||
        last == no_end)
        return std::nullopt;
    range.last = last;
    return range;
}

}  // namespace

Awaitable<Result<Response>> get_file(Call& call) {
    const auto machine = find_vm(call);
    if (!machine) co_return fail(machine.error());
    const auto path = guest_path(call);
    if (!path) co_return fail(path.error());
    auto range = parse_range(call.exchange.header("Range"));
    const auto offset = number_parameter(call.target, "offset", 0, std::numeric_limits<std::int64_t>::max());
    if (!offset) co_return fail(offset.error());
    const std::uint64_t first = range ? range->first : offset->value_or(0);
    proto::Operation read = proto::FileRead{*path, first};
    auto download = co_await Download::open(*machine, std::move(read));
    if (!download) co_return fail(std::move(download).error());
    const auto& stat = (*download)->stat();
    if (!stat) co_return fail(Errc::corrupt, "the guest said nothing about the file");
    if (stat->kind == proto::FileStat::Kind::directory)
        co_return fail(Errc::invalid,
                       "'" + wire::clipped(*path) + "' is a directory: read it with GET …/archive");
    if (first > stat->size || (range && first == stat->size && first > 0)) {
        Response response =
            problem(416, "invalid", "the range begins behind the file's end", call.request_id);
        response.headers.emplace_back("Content-Range", fmt::format("bytes */{}", stat->size));
        co_return response;
    }
    std::uint64_t length = stat->size - first;
    if (range && range->last) length = std::min(length, *range->last - first + 1);
    Response head;
    head.content_type = "application/octet-stream";
    head.headers.emplace_back("X-Noid-File-Mode", fmt::format("{:04o}", stat->mode & 07777));
    head.headers.emplace_back("Accept-Ranges", "bytes");
    if (range && length > 0) {
        head.status = 206;
        head.headers.emplace_back("Content-Range",
                                  fmt::format("bytes {}-{}/{}", first, first + length - 1, stat->size));
    }
    // Devices, pipes and files of /proc have no size: they are sent to their end.
    const bool sized = stat->kind == proto::FileStat::Kind::file && stat->size > 0;
    auto started =
        co_await call.exchange.start(std::move(head), sized ? std::optional{length} : std::nullopt);
    if (!started) co_return fail(std::move(started).error());
    if (call.method != Method::head) {
        auto copied = co_await (*download)->copy(call.exchange, sized ? length : 0, sized ? length : no_end);
        if (!copied) co_return fail(std::move(copied).error());
    }
    if (auto finished = co_await call.exchange.finish(); !finished)
        co_return fail(std::move(finished).error());
    co_return Response::already_sent();
}

Awaitable<Result<Response>> put_file(Call& call) {
    const auto machine = find_vm(call);
    if (!machine) co_return fail(machine.error());
    auto path = guest_path(call);
    if (!path) co_return fail(std::move(path).error());
    auto write = write_operation(call.target, std::move(*path));
    if (!write) co_return fail(std::move(write).error());
    co_return co_await upload(call, **machine, std::move(*write));
}

Awaitable<Result<Response>> get_archive(Call& call) {
    const auto machine = find_vm(call);
    if (!machine) co_return fail(machine.error());
    auto path = guest_path(call);
    if (!path) co_return fail(std::move(path).error());
    proto::Operation read = proto::TarRead{std::move(*path)};
    auto download = co_await Download::open(*machine, std::move(read));
    if (!download) co_return fail(std::move(download).error());
    Response head;
    head.content_type = "application/x-tar";
    if (auto started = co_await call.exchange.start(std::move(head), std::nullopt); !started)
        co_return fail(std::move(started).error());
    if (call.method != Method::head) {
        auto copied = co_await (*download)->copy(call.exchange, 0, no_end);
        if (!copied) co_return fail(std::move(copied).error());
    }
    if (auto finished = co_await call.exchange.finish(); !finished)
        co_return fail(std::move(finished).error());
    co_return Response::already_sent();
}

Awaitable<Result<Response>> put_archive(Call& call) {
    const auto machine = find_vm(call);
    if (!machine) co_return fail(machine.error());
    auto path = guest_path(call);
    if (!path) co_return fail(std::move(path).error());
    auto unpack = unpack_operation(call.target, std::move(*path));
    if (!unpack) co_return fail(std::move(unpack).error());
    co_return co_await upload(call, **machine, std::move(*unpack));
}

Awaitable<Result<Response>> transfer_stream(Call& call) {
    auto path = guest_path(call);
    if (!path) co_return fail(std::move(path).error());
    auto operation = named_operation(call.target, std::move(*path));
    if (!operation) co_return fail(std::move(operation).error());
    co_return co_await session_stream(call, std::move(*operation));
}

}  // namespace noid::api
