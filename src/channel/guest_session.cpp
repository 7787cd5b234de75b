#include "channel/guest_session.hpp"

#include <utility>

namespace noid::channel {

using Leave = proto::HostSession::Leave;

SessionState::SessionState(std::shared_ptr<GuestConnection> connection, proto::SessionId id,
                           std::string_view spec)
    : HostSession{id, spec}, changed{connection->strand()}, connection_{connection} {}

SessionState::SessionState(std::shared_ptr<GuestConnection> connection, proto::SessionId id,
                           proto::OutputOffsets have)
    : HostSession{id, have}, changed{connection->strand()}, connection_{connection} {}

void SessionState::on_output() {
    if (const auto connection = connection_.lock()) connection->wants_to_send(id());
}

GuestSession::GuestSession(std::shared_ptr<GuestConnection> connection, std::shared_ptr<SessionState> state)
    : connection_{std::move(connection)}, state_{std::move(state)}, consumer_{state_->new_consumer()} {}

GuestSession::~GuestSession() {
    if (left_) return;
    // Perhaps on another thread, and never inside a call of the connection's.
    asio::post(connection_->strand(), [connection = connection_, state = state_, consumer = consumer_,
                                       how = ended_ ? Leave::collect : Leave::release] {
        if (connection->stopped() || state->consumer() != consumer) return;
        state->leave(how);
        connection->flush();
    });
}

std::optional<Error> GuestSession::obstacle() const {
    if (left_) return Error{Errc::cancelled, "this consumer has left the session"};
    if (state_->consumer() != consumer_)
        return Error{Errc::cancelled, "another consumer took the session over"};
    if (state_->failure()) return *state_->failure();
    if (connection_->stopped()) return Error{Errc::unavailable, "the virtual machine is gone"};
    return std::nullopt;
}

Awaitable<Result<Session::Event>> GuestSession::next() {
    const auto state = state_;
    while (true) {
        if (ended_) co_return fail(Errc::conflict, "the session has ended");
        if (!left_ && state->consumer() == consumer_) {
            if (auto event = state->next_event()) {
                ended_ = std::holds_alternative<Ended>(*event);
                co_return std::move(*event);
            }
        }
        if (auto why = obstacle()) co_return fail(std::move(*why));
        co_await state->changed.wait();
    }
}

void GuestSession::acknowledge(proto::OutputStream stream, std::uint64_t offset) {
    if (left_ || state_->consumer() != consumer_) return;
    state_->acknowledge(stream, offset);
    connection_->flush();
}

Awaitable<Result<void>> GuestSession::write(std::string bytes) {
    const auto state = state_;
    std::string_view rest = bytes;
    while (true) {
        if (auto why = obstacle()) co_return fail(std::move(*why));
        if (state->input_closed()) co_return fail(Errc::conflict, "the session's input was closed");
        rest.remove_prefix(state->write(rest));
        connection_->flush();
        if (rest.empty()) co_return Result<void>{};
        co_await state->changed.wait();
    }
}

void GuestSession::close_input() {
    if (obstacle()) return;
    state_->close_input();
    connection_->flush();
}

Awaitable<Result<std::uint64_t>> GuestSession::input_taken_beyond(std::uint64_t than) {
    const auto state = state_;
    while (true) {
        if (state->input_taken() > than) co_return state->input_taken();
        if (auto why = obstacle()) co_return fail(std::move(*why));
        if (ended_) co_return fail(Errc::unavailable, "the session has ended");
        co_await state->changed.wait();
    }
}

void GuestSession::signal(int number) {
    if (obstacle()) return;
    state_->signal(number);
    connection_->flush();
}

void GuestSession::resize(proto::TerminalSize size) {
    if (obstacle()) return;
    state_->resize(size);
    connection_->flush();
}

Awaitable<Result<void>> GuestSession::attached() {
    const auto state = state_;
    while (true) {
        if (auto why = obstacle()) co_return fail(std::move(*why));
        if (state->attached()) co_return Result<void>{};
        co_await state->changed.wait();
    }
}

void GuestSession::leave(Leave how) {
    // After detach() or release() it can still be cancelled.
    if (left_ && how != Leave::cancel) return;
    left_ = true;
    if (connection_->stopped() || state_->consumer() != consumer_) return;
    state_->leave(how);
    state_->changed.notify();
    connection_->flush();
}

}  // namespace noid::channel
