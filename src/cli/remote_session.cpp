#include "cli/remote_session.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/json/serialize.hpp>
#include <utility>

#include "cli/failure.hpp"
#include "cli/task_group.hpp"

namespace noid::cli {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

// So much input may be on its way, not yet taken by the command: the server's bound.
constexpr std::uint64_t input_window = 1024 * 1024;
constexpr std::uint64_t acknowledge_every = 128 * 1024;
// More than any server may send without acknowledgements; one that does is broken.
constexpr std::size_t max_pending_output = 64 * 1024 * 1024;
constexpr auto first_pause = 100ms;
constexpr auto longest_pause = 2000ms;
constexpr auto goodbye_limit = 1000ms;

// Whether it may go better when tried again.
bool is_passing(unsigned status) {
    return status == 0 || status == 429 || status >= 500;
}

std::string_view name_of(RemoteSession::Transfer::Operation operation) {
    using enum RemoteSession::Transfer::Operation;
    switch (operation) {
        case read_file:
            return "read-file";
        case write_file:
            return "write-file";
        case read_archive:
            return "read-archive";
        case write_archive:
            return "write-archive";
    }
    return "read-file";
}

std::string target_of(const RemoteSession::Start& start, const RemoteSession::Options& options) {
    if (const auto* attach = std::get_if<RemoteSession::Attach>(&start)) {
        return fmt::format("/v1/vms/{}/sessions/{}/attach?stdout={}&stderr={}", options.vm, attach->id,
                           attach->have_out, attach->have_err);
    }
    if (const auto* connect = std::get_if<RemoteSession::Connect>(&start))
        return fmt::format("/v1/vms/{}/tcp?port={}&hold_ms={}", options.vm, connect->port,
                           options.hold.count());
    if (const auto* transfer = std::get_if<RemoteSession::Transfer>(&start)) {
        return fmt::format("/v1/vms/{}/transfer?operation={}&path={}&mode={:o}&hold_ms={}", options.vm,
                           name_of(transfer->operation), encode_query_value(transfer->path), transfer->mode,
                           options.hold.count());
    }
    return fmt::format("/v1/vms/{}/exec", options.vm);
}

// Reads on until the server has closed, so that it is answered.
Awaitable<Result<void>> hear_goodbye(WebSocket& socket) {
    for (;;) {
        auto message = co_await socket.read();
        if (!message || message->kind == WebSocket::Kind::closed) co_return Result<void>{};
    }
}

}  // namespace

void RemoteSession::Output::begin_at(std::uint64_t offset) {
    received = written = safe = acknowledged = offset;
}

std::uint64_t RemoteSession::Output::go_on_at(std::uint64_t offset) {
    repeated = received > offset ? received - offset : 0;
    const auto missing = offset > received ? offset - received : 0;
    received += missing;
    gap += missing;
    settle_gap();
    return missing;
}

void RemoteSession::Output::take(std::string_view bytes) {
    const auto known = std::min<std::uint64_t>(repeated, bytes.size());
    repeated -= known;
    bytes.remove_prefix(known);
    pending += bytes;
    received += bytes.size();
}

void RemoteSession::Output::wrote(std::uint64_t count) {
    written += count;
    safe = written;
    settle_gap();
}

void RemoteSession::Output::settle_gap() {
    if (written + gap == received) written += std::exchange(gap, 0);
}

bool RemoteSession::Output::owes_acknowledgement() const {
    const auto owed = safe - acknowledged;
    return owed >= acknowledge_every || (owed > 0 && written == received);
}

std::optional<Error> RemoteSession::error_of(const Ending& ending) {
    if (const auto* refused = std::get_if<Refused>(&ending)) return refused->error;
    if (const auto* failed = std::get_if<Failed>(&ending))
        return Error{Errc::unavailable, printable(failed->what), {}};
    if (const auto* lost = std::get_if<Lost>(&ending)) return Error{Errc::unavailable, lost->what, {}};
    return std::nullopt;
}

RemoteSession::RemoteSession(const asio::any_io_executor& executor, Options options)
    : options_{std::move(options)},
      executor_{executor},
      output_changed_{executor},
      room_changed_{executor},
      to_send_{executor},
      pause_{executor} {}

Awaitable<RemoteSession::Connected> RemoteSession::connect(const Start& start) {
    const auto target = target_of(start, options_);
    auto attempt = WebSocket::connect(options_.account, target, WebSocket::Watch::silence, options_.trace);
    auto [thrown, connected] = co_await asio::co_spawn(
        executor_, std::move(attempt),
        asio::bind_cancellation_slot(attempt_.slot(), asio::as_tuple(asio::use_awaitable)));
    if (thrown && !abandoned_) std::rethrow_exception(thrown);
    co_return std::move(connected);
}

RemoteSession::Ending RemoteSession::finish(Ending ending) {
    over_ = true;
    socket_.reset();
    output_changed_.notify();
    room_changed_.notify();
    return ending;
}

Awaitable<RemoteSession::Ending> RemoteSession::run(Start start) {
    if (const auto* attach = std::get_if<Attach>(&start)) {
        id_ = attach->id;
        outputs_[0].begin_at(attach->have_out);
        outputs_[1].begin_at(attach->have_err);
    }
    auto connected = co_await connect(start);
    if (abandoned_) co_return finish(Abandoned{});
    if (!connected) co_return finish(Refused{connected.error().error, connected.error().status});
    socket_ = std::move(*connected);
    if (auto* request = std::get_if<wire::ExecRequest>(&start)) {
        request->resumable = true;
        request->hold_ms = static_cast<std::uint64_t>(options_.hold.count());
        const auto text = boost::json::serialize(wire::to_json(*request));
        if (auto sent = co_await socket_->write_text(text); !sent) co_return finish(Refused{sent.error(), 0});
    }
    for (;;) {
        std::string why;
        if (auto ending = co_await serve(*socket_, why)) co_return finish(std::move(*ending));
        socket_.reset();
        if (detaching_) co_return finish(Detached{id_});
        if (id_.empty()) {
            co_return finish(
                Lost{why + " before the result arrived; whether it came to its end is not known", {}});
        }
        Ending ending = Abandoned{};
        socket_ = co_await reconnect(std::move(why), ending);
        if (!socket_) co_return finish(std::move(ending));
        if (options_.resumed) options_.resumed();
    }
}

Awaitable<std::unique_ptr<WebSocket>> RemoteSession::reconnect(std::string why, Ending& ending) {
    if (options_.interrupted) options_.interrupted(why);
    const auto deadline = Clock::now() + options_.hold;
    for (auto pause = first_pause; !abandoned_; pause = std::min(pause * 2, longest_pause)) {
        const Start attach = Attach{id_, outputs_[0].received, outputs_[1].received};
        auto connected = co_await connect(attach);
        if (abandoned_) break;
        if (connected) co_return std::move(*connected);
        const auto& refusal = connected.error();
        if (refusal.status == 404) {
            ending = Lost{"the server no longer knows the session: it was ended, or the VM is gone", {}};
            co_return nullptr;
        }
        if (!is_passing(refusal.status) || Clock::now() + pause > deadline) {
            ending = Lost{refusal.error.what, id_};
            co_return nullptr;
        }
        pause_.expires_after(pause);
        boost::system::error_code abandoned;
        co_await pause_.async_wait(asio::redirect_error(asio::use_awaitable, abandoned));
    }
    ending = Abandoned{};
    co_return nullptr;
}

Awaitable<std::optional<RemoteSession::Ending>> RemoteSession::serve(WebSocket& socket, std::string& why) {
    opened_ = false;
    input_end_sent_ = false;
    TaskGroup sender{executor_};
    sender.spawn(send_all(socket));
    std::optional<Ending> ending;
    while (!ending) {
        auto message = co_await socket.read();
        if (!message) {
            why = message.error().what;
            break;
        }
        if (message->kind == WebSocket::Kind::closed) {
            why = "the server closed the connection";
            break;
        }
        ending = take(*message);
    }
    if (!ending && abandoned_) ending = Abandoned{};
    if (ending && std::holds_alternative<Finished>(*ending))
        co_await within(goodbye_limit, hear_goodbye(socket));
    socket.abort();
    sender.cancel();
    co_await sender.join();
    co_return ending;
}

std::optional<RemoteSession::Ending> RemoteSession::take(const WebSocket::Message& message) {
    if (message.kind == WebSocket::Kind::text) return take_text(message.data);
    if (message.data.empty()) return std::nullopt;
    const auto channel = static_cast<wire::Channel>(message.data.front());
    if (channel != wire::Channel::output && channel != wire::Channel::error_output) return std::nullopt;
    auto& stream = output(channel);
    const auto bytes = message.data.substr(1);
    if (stream.pending.size() + bytes.size() > max_pending_output)
        return Failed{"the server sends more output than it may"};
    stream.take(bytes);
    output_changed_.notify();
    return std::nullopt;
}

std::optional<RemoteSession::Ending> RemoteSession::take_text(std::string_view text) {
    auto parsed = wire::parse_server_message(text);
    if (!parsed) return std::nullopt;  // of a newer server; the original's clients ignore these too
    if (const auto* result = std::get_if<wire::ExecResult>(&*parsed)) return Finished{*result, !id_.empty()};
    if (const auto* error = std::get_if<wire::ErrorBody>(&*parsed)) return Failed{error->error};
    if (const auto* opened = std::get_if<wire::SessionOpened>(&*parsed)) return on_opened(*opened);
    if (const auto* taken = std::get_if<wire::InputTaken>(&*parsed)) {
        input_taken_ = std::max(input_taken_, taken->offset);
        input_.forget_below(std::min(input_taken_, input_sent_));
        room_changed_.notify();
    } else if (const auto* gap = std::get_if<wire::OutputDropped>(&*parsed)) {
        auto& stream = output(gap->stream);
        note_missing(stream.go_on_at(stream.received + gap->bytes));
    } else if (const auto* end = std::get_if<wire::OutputEnd>(&*parsed)) {
        output(end->stream).ended = true;
        output_changed_.notify();
    }
    return std::nullopt;
}

std::optional<RemoteSession::Ending> RemoteSession::on_opened(const wire::SessionOpened& opened) {
    if (id_.empty()) id_ = opened.id;
    // A session that others wrote to before: our input begins where theirs ended.
    if (!std::exchange(opened_before_, true)) input_ = ReplayBuffer{opened.input};
    if (opened.input < input_.begin() || opened.input > input_.end())
        return Failed{"the server wants input from where this client never was"};
    note_missing(outputs_[0].go_on_at(opened.out) + outputs_[1].go_on_at(opened.err));
    input_sent_ = opened.input;
    input_taken_ = std::max(input_taken_, opened.input);
    input_.forget_below(opened.input);
    opened_ = true;
    if (options_.opened) options_.opened(id_);
    room_changed_.notify();
    to_send_.notify();
    return std::nullopt;
}

void RemoteSession::note_missing(std::uint64_t bytes) {
    if (bytes > 0 && options_.dropped) options_.dropped(bytes);
}

Awaitable<void> RemoteSession::send_all(WebSocket& socket) {
    for (;;) {
        Result<void> sent;
        if (!opened_) {
            co_await to_send_.wait();
        } else if (!control_.empty()) {
            const auto text = control_.front();
            sent = co_await socket.write_text(text);
            if (sent) control_.pop_front();
        } else if (acknowledgement_due()) {
            const wire::Acknowledge ack{outputs_[0].safe, outputs_[1].safe};
            outputs_[0].acknowledged = ack.out;
            outputs_[1].acknowledged = ack.err;
            sent = co_await socket.write_text(wire::to_text(ack));
        } else if (const auto bytes = input_.from(input_sent_).substr(0, wire::max_stream_payload);
                   !bytes.empty()) {
            constexpr char head = static_cast<char>(wire::Channel::input);
            const auto count = bytes.size();
            sent = co_await socket.write_binary({&head, 1}, bytes);
            input_sent_ += count;
            input_.forget_below(std::min(input_taken_, input_sent_));
            room_changed_.notify();
        } else if (input_ended_ && !input_end_sent_) {
            input_end_sent_ = true;
            sent = co_await socket.write_text(wire::to_text(wire::InputEnd{}));
        } else {
            co_await to_send_.wait();
        }
        if (!sent) co_return;  // the reader sees the broken connection too
    }
}

bool RemoteSession::acknowledgement_due() const {
    return std::ranges::any_of(outputs_, &Output::owes_acknowledgement);
}

Awaitable<std::string> RemoteSession::next_output(wire::Channel stream) {
    auto& mine = output(stream);
    while (mine.pending.empty() && !mine.ended && !over_) co_await output_changed_.wait();
    co_return std::exchange(mine.pending, {});
}

void RemoteSession::written(wire::Channel stream, std::uint64_t count) {
    output(stream).wrote(count);
    if (acknowledgement_due()) to_send_.notify();
}

Awaitable<bool> RemoteSession::room_for_input() {
    while (!over_ && (!opened_before_ || input_.size() + wire::max_stream_payload > input_window))
        co_await room_changed_.wait();
    co_return !over_;
}

void RemoteSession::send_input(std::string bytes) {
    input_.append(std::move(bytes));
    to_send_.notify();
}

void RemoteSession::end_input() {
    input_ended_ = true;
    to_send_.notify();
}

void RemoteSession::send(const wire::ClientMessage& message) {
    control_.push_back(wire::to_text(message));
    to_send_.notify();
}

void RemoteSession::send_signal(int number) {
    send(wire::SendSignal{number});
}
void RemoteSession::resize(wire::WindowSize size) {
    send(wire::Resize{size});
}
void RemoteSession::cancel() {
    send(wire::Cancel{});
}

void RemoteSession::detach() {
    detaching_ = true;
    send(wire::Detach{});
}

void RemoteSession::abandon() {
    abandoned_ = true;
    attempt_.emit(asio::cancellation_type::terminal);
    pause_.cancel();
    if (socket_) socket_->abort();
}

RemoteSession::Output& RemoteSession::output(wire::Channel stream) {
    return outputs_[stream == wire::Channel::error_output ? 1 : 0];
}

}  // namespace noid::cli
