#include "api/guest_session.hpp"

#include "wire/names.hpp"

namespace noid::api {

namespace {

constexpr std::int32_t sigkill = 9;

// A guest's word for an error: bounded, and inside the closed set.
Error guest_error(const proto::SessionEnd& end) {
    Errc code = Errc::internal;
    if (end.errc < static_cast<std::uint8_t>(Errc::internal)) code = static_cast<Errc>(end.errc);
    std::string what = wire::clipped(end.message, 512);
    if (what.empty()) what = "the guest gave no reason";
    // What the guest calls a bug or a bad token is no fault of this server and no matter of access.
    if (code == Errc::internal || code == Errc::unauthenticated || code == Errc::rate_limited)
        code = Errc::unavailable;
    return Error{code, std::move(what), {}};
}

}  // namespace

Result<CommandEnd> command_end(const proto::SessionEnd& end) {
    using How = proto::SessionEnd::How;
    CommandEnd out;
    switch (end.how) {
        case How::exited:
            out.result.exit_code = end.status;
            return out;
        case How::signalled:
            out.result.signal = end.status;
            out.result.exit_code = 128 + end.status;
            return out;
        case How::timed_out:
            out.result.timed_out = true;
            return out;
        case How::cancelled:
            out.result.signal = sigkill;
            out.result.exit_code = 128 + sigkill;
            return out;
        case How::failed:
            break;
    }
    Error error = guest_error(end);
    if (error.code != Errc::not_found && error.code != Errc::forbidden) return fail(std::move(error));
    // As a shell reports a command that it cannot start.
    out.result.exit_code = error.code == Errc::not_found ? 127 : 126;
    out.complaint = "noid: " + error.what + "\n";
    return out;
}

Result<void> transfer_end(const proto::SessionEnd& end) {
    using How = proto::SessionEnd::How;
    if (end.how == How::failed) return fail(guest_error(end));
    if (end.how == How::timed_out) return fail(Errc::timed_out, "the transfer took too long");
    if (end.how != How::exited) return fail(Errc::cancelled, "the transfer was cancelled");
    if (end.status != 0)
        return fail(Errc::unavailable,
                    "the transfer failed in the guest with status " + std::to_string(end.status));
    return {};
}

SessionGuard::~SessionGuard() {
    if (leave_ == Leave::nothing) return;
    asio::post(strand_, [session = std::move(session_), leave = leave_] {
        if (leave == Leave::cancel) session->cancel();
        if (leave == Leave::release) session->release();
        if (leave == Leave::detach) session->detach();
    });
}

Awaitable<Result<channel::Session::Event>> next_event(const asio::any_io_executor& strand,
                                                      std::shared_ptr<channel::Session> session) {
    auto next = [session = std::move(session)] { return session->next(); };
    co_return co_await on_strand(strand, std::move(next));
}

void acknowledge(const asio::any_io_executor& strand, const std::shared_ptr<channel::Session>& session,
                 proto::OutputStream stream, std::uint64_t offset) {
    asio::post(strand, [session, stream, offset] { session->acknowledge(stream, offset); });
}

Awaitable<Result<void>> write_input(const asio::any_io_executor& strand,
                                    std::shared_ptr<channel::Session> session, std::string bytes) {
    auto write = [session = std::move(session), &bytes] { return session->write(std::move(bytes)); };
    co_return co_await on_strand(strand, std::move(write));
}

Awaitable<void> send_input(const asio::any_io_executor& strand, std::shared_ptr<channel::Session> session,
                           std::string_view input) {
    while (!input.empty()) {
        const std::string_view part = input.substr(0, proto::max_payload);
        if (const auto written = co_await write_input(strand, session, std::string{part}); !written) break;
        input.remove_prefix(part.size());
    }
    close_input(strand, session);
}

void close_input(const asio::any_io_executor& strand, const std::shared_ptr<channel::Session>& session) {
    asio::post(strand, [session] { session->close_input(); });
}

Awaitable<void> wait_for_cancellation() {
    asio::steady_timer never{co_await asio::this_coro::executor, asio::steady_timer::time_point::max()};
    co_await never.async_wait(asio::use_awaitable);
}

}  // namespace noid::api
