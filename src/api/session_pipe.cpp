#include "api/session_pipe.hpp"

#include <algorithm>
#include <array>
#include <boost/asio/as_tuple.hpp>
#include <deque>
#include <variant>

#include "api/guest_session.hpp"
#include "wire/stream.hpp"

namespace noid::api {

namespace {

using channel::Session;

constexpr std::uint64_t input_limit = 2 * proto::stream_window;

wire::Channel to_channel(proto::OutputStream stream) noexcept {
    return stream == proto::OutputStream::err ? wire::Channel::error_output : wire::Channel::output;
}

std::string error_text(const Error& error) {
    return wire::to_text(wire::ErrorBody{error.what, std::string{noid::name_of(error.code)}, {}});
}

class SessionPipe {
  public:
    SessionPipe(WebSocket& socket, asio::any_io_executor strand, std::shared_ptr<Session> session,
                PipeOptions options, asio::any_io_executor own)
        : socket_{socket},
          strand_{std::move(strand)},
          session_{std::move(session)},
          options_{options},
          guard_{strand_, session_},
          delivered_{options.begin},
          input_event_{std::move(own), asio::steady_timer::time_point::max()} {
        guard_.on_exit(options_.resumable ? SessionGuard::Leave::release : SessionGuard::Leave::cancel);
    }

    Awaitable<void> run() {
        if (options_.attached) {
            if (auto announced = co_await announce(0); !announced) co_return;
        }
        const auto executor = co_await asio::this_coro::executor;
        auto group = asio::experimental::make_parallel_group(
            asio::co_spawn(executor, carry_output(), asio::deferred),
            asio::co_spawn(executor, carry_messages(), asio::deferred),
            asio::co_spawn(executor, carry_input(), asio::deferred),
            asio::co_spawn(executor, acknowledge_input(), asio::deferred),
            asio::co_spawn(executor, socket_.keep_alive(), asio::deferred));
        const auto [order, output, messages, input, acknowledgements, pings] =
            co_await group.async_wait(asio::experimental::wait_for_one(), asio::use_awaitable);
        // Those that lost the race end with operation_aborted; only the winner's exception counts.
        const std::array<std::exception_ptr, 5> thrown{output, messages, input, acknowledgements, pings};
        if (thrown[order[0]]) std::rethrow_exception(thrown[order[0]]);
    }

  private:
    // From the guest to the client, until the session ends or the client cannot be written to.
    Awaitable<void> carry_output() {
        while (true) {
            auto event = co_await next_event(strand_, session_);
            if (!event) {
                // Taken over by another client, or the VM is gone: nothing is left to hold or cancel.
                guard_.on_exit(SessionGuard::Leave::nothing);
                std::string last = killed_ ? wire::to_text(killed_result()) : error_text(event.error());
                co_await say_farewell(std::move(last));
                co_return;
            }
            if (const auto* ended = std::get_if<Session::Ended>(&*event)) {
                // A client that may come back is only through with it when it has got everything: the kernel
                // may hold the last megabyte of one that has just died.
                if (!options_.resumable) guard_.on_exit(SessionGuard::Leave::nothing);
                co_await report_end(*ended);
                co_return;
            }
            Result<void> sent;
            if (auto* output = std::get_if<Session::Output>(&*event)) {
                sent = co_await send_output(*output);
            } else {
                sent = co_await send_notice(*event);
            }
            if (!sent) co_return;
        }
    }

    Awaitable<Result<void>> send_output(const Session::Output& output) {
        const wire::Channel channel = to_channel(output.stream);
        std::uint64_t& delivered =
            output.stream == proto::OutputStream::err ? delivered_.err : delivered_.out;
        delivered = output.offset;
        for (std::string_view rest = output.bytes; !rest.empty();) {
            const std::string_view part = rest.substr(0, wire::max_stream_payload);
            delivered += part.size();  // first: the acknowledgement may be here before the write returns
            if (auto sent = co_await socket_.write_binary(channel, part); !sent) co_return fail(sent.error());
            rest.remove_prefix(part.size());
        }
        if (!options_.resumable) acknowledge(strand_, session_, output.stream, delivered);
        co_return Result<void>{};
    }

    Awaitable<Result<void>> send_notice(const Session::Event& event) {
        if (const auto* opened = std::get_if<Session::Opened>(&event)) {
            if (options_.resumable && !options_.attached) co_return co_await announce(opened->pid);
        } else if (const auto* dropped = std::get_if<Session::Dropped>(&event)) {
            truncated_ = true;
            if (options_.resumable)
                co_return co_await socket_.write_text(
                    wire::to_text(wire::OutputDropped{to_channel(dropped->stream), dropped->count}));
        } else if (const auto* end = std::get_if<Session::OutputEnd>(&event)) {
            // Not announced: it could not be started, which its end will say.
            if (options_.resumable && announced_)
                co_return co_await socket_.write_text(
                    wire::to_text(wire::OutputEnd{to_channel(end->stream)}));
        }
        co_return Result<void>{};
    }

    Awaitable<Result<void>> announce(std::uint32_t pid) {
        auto position = [session = session_]() -> Awaitable<Result<std::uint64_t>> {
            co_return session->input_written();
        };
        const auto input = co_await on_strand(strand_, std::move(position));
        acknowledged_input_ = *input;
        announced_ = true;
        input_event_.cancel();
        const wire::ServerMessage opened = wire::SessionOpened{proto::to_string(session_->id()), pid,
                                                               delivered_.out, delivered_.err, *input};
        co_return co_await socket_.write_text(wire::to_text(opened));
    }

    Awaitable<void> report_end(const Session::Ended& ended) {
        end_told_ = true;
        auto end = command_end(ended);
        if (!end) {
            co_await say_farewell(error_text(end.error()));
            co_return;
        }
        if (!end->complaint.empty()) {
            auto sent = co_await socket_.write_binary(wire::Channel::error_output, end->complaint);
            if (!sent) co_return;
        }
        end->result.truncated = truncated_;
        co_await say_farewell(wire::to_text(end->result));
    }

    // Of a session that this client killed: the guest says nothing more about it.
    [[nodiscard]] wire::ServerMessage killed_result() const {
        constexpr std::int32_t sigkill = 9;
        return wire::ExecResult{128 + sigkill, false, truncated_, sigkill};
    }

    Awaitable<void> say_farewell(std::string text) {
        const auto sent = co_await socket_.write_text(std::move(text));
        if (!sent) co_return;
        const bool answered = co_await socket_.close();
        if (answered && end_told_) guard_.on_exit(SessionGuard::Leave::nothing);
    }

    // From the client: input into the queue, control messages to the session.
    Awaitable<void> carry_messages() {
        while (true) {
            const auto message = co_await socket_.read();
            if (!message) {
                if (message.error().code == Errc::too_large)
                    co_await say_farewell(error_text(message.error()));
                co_return;
            }
            if (message->kind == WebSocket::Message::Kind::closed) {
                if (end_told_) guard_.on_exit(SessionGuard::Leave::nothing);
                co_return;
            }
            Result<void> taken;
            if (message->kind == WebSocket::Message::Kind::text) {
                taken = take_text(message->data);
                if (leaving_) {
                    co_await socket_.close();
                    co_return;
                }
            } else {
                taken = take_binary(message->data);
            }
            if (!taken) {
                co_await say_farewell(error_text(taken.error()));
                co_return;
            }
            while (queued_bytes_ > input_limit)
                co_await input_event_.async_wait(asio::as_tuple(asio::use_awaitable));
        }
    }

    Result<void> take_text(std::string_view text) {
        auto message = wire::parse_client_message(text);
        if (!message) {
            // The original ignores what it does not know.
            if (!options_.resumable) return {};
            return fail(std::move(message).error().at("invalid message"));
        }
        if (std::holds_alternative<wire::InputEnd>(*message)) {
            input_ended_ = true;
            input_event_.cancel();
        } else if (const auto* signal = std::get_if<wire::SendSignal>(&*message)) {
            tell([number = signal->number](Session& session) { session.signal(number); });
        } else if (const auto* resize = std::get_if<wire::Resize>(&*message)) {
            resize_to(resize->size);
        } else if (std::holds_alternative<wire::Detach>(*message)) {
            guard_.on_exit(SessionGuard::Leave::detach);
            leaving_ = true;
        } else if (std::holds_alternative<wire::Cancel>(*message)) {
            killed_ = true;
            tell([](Session& session) { session.cancel(); });
        } else if (const auto* ack = std::get_if<wire::Acknowledge>(&*message)) {
            return take_acknowledgement(*ack);
        }
        return {};
    }

    Result<void> take_acknowledgement(const wire::Acknowledge& ack) {
        if (!options_.resumable) return {};
        if (ack.out > delivered_.out || ack.err > delivered_.err)
            return fail(Errc::invalid, "acknowledgement of bytes that were not sent");
        tell([ack](Session& session) {
            session.acknowledge(proto::OutputStream::out, ack.out);
            session.acknowledge(proto::OutputStream::err, ack.err);
        });
        return {};
    }

    Result<void> take_binary(std::string_view data) {
        if (data.empty()) return {};
        const auto channel = static_cast<wire::Channel>(data.front());
        data.remove_prefix(1);
        if (channel == wire::Channel::input && options_.takes_input && !input_ended_ && !data.empty()) {
            input_.emplace_back(data);
            queued_bytes_ += data.size();
            input_event_.cancel();
        } else if (channel == wire::Channel::resize) {
            if (const auto size = wire::parse_resize(data)) resize_to(*size);
        }
        return {};
    }

    void resize_to(wire::WindowSize size) {
        tell([size](Session& session) { session.resize({size.cols, size.rows}); });
    }

    // From the queue into the guest's window. A session that takes no more input loses it, as a pipe
    // does whose reader has closed.
    Awaitable<void> carry_input() {
        bool open = options_.takes_input;
        while (true) {
            while (!input_.empty()) {
                std::string bytes = std::move(input_.front());
                input_.pop_front();
                const std::size_t size = bytes.size();
                if (open) {
                    const auto written = co_await write_input(strand_, session_, std::move(bytes));
                    open = written.has_value();
                }
                queued_bytes_ -= size;
                input_event_.cancel();
            }
            if (input_ended_ && open) {
                close_input(strand_, session_);
                open = false;
            }
            co_await input_event_.async_wait(asio::as_tuple(asio::use_awaitable));
        }
    }

    Awaitable<void> acknowledge_input() {
        // The announcement is the first message that the client gets.
        while (!announced_) co_await input_event_.async_wait(asio::as_tuple(asio::use_awaitable));
        while (options_.resumable && options_.takes_input) {
            auto wait = [session = session_, than = acknowledged_input_] {
                return session->input_taken_beyond(than);
            };
            const auto taken = co_await on_strand(strand_, std::move(wait));
            if (!taken) break;
            acknowledged_input_ = *taken;
            if (auto sent = co_await socket_.write_text(wire::to_text(wire::InputTaken{*taken})); !sent)
                co_return;
        }
        co_await wait_for_cancellation();
    }

    template <class Action>
    void tell(Action action) {
        asio::post(strand_, [session = session_, action] { action(*session); });
    }

    WebSocket& socket_;
    asio::any_io_executor strand_;
    std::shared_ptr<Session> session_;
    PipeOptions options_;
    SessionGuard guard_;
    proto::OutputOffsets delivered_;
    bool truncated_ = false;
    bool leaving_ = false;
    bool killed_ = false;    // by our client's word
    bool end_told_ = false;  // it is written how the session has ended
    std::deque<std::string> input_;
    std::uint64_t queued_bytes_ = 0;
    bool input_ended_ = false;
    asio::steady_timer input_event_;  // cancelled whenever the queue changes, or announced_
    bool announced_ = false;
    std::uint64_t acknowledged_input_ = 0;
};

}  // namespace

Awaitable<void> pipe_session(WebSocket& socket, asio::any_io_executor vm_strand,
                             std::shared_ptr<channel::Session> session, PipeOptions options) {
    SessionPipe pipe{socket, std::move(vm_strand), std::move(session), options,
                     co_await asio::this_coro::executor};
    co_await pipe.run();
}

}  // namespace noid::api
