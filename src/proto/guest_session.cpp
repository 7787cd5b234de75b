#include "proto/guest_session.hpp"

#include <algorithm>
#include <utility>
#include <variant>

namespace noid::proto {

Result<void> GuestSession::receive(StreamId stream, std::uint64_t offset, std::string_view bytes) {
    if (stream == StreamId::control) return receive_control(offset, bytes);
    if (stream != StreamId::input) return fail(Errc::corrupt, "bytes for a stream that the guest sends");
    const auto fresh = input_.accept(offset, bytes);
    if (!fresh) return fail(fresh.error());
    if (fresh->empty()) return {};
    if (ended_) {
        // Nobody reads any more; taking it keeps the sender from waiting for ever.
        input_.consume(input_.received());
        on_output();
        return {};
    }
    input_bytes_.append(*fresh);
    on_input();
    return {};
}

Result<void> GuestSession::receive_control(std::uint64_t offset, std::string_view bytes) {
    const auto fresh = control_.accept(offset, bytes);
    if (!fresh) return fail(fresh.error());
    control_.consume(control_.received());
    on_output();
    control_records_.feed(*fresh);
    while (true) {
        auto record = control_records_.next();
        if (!record) return fail(record.error());
        if (!*record) return {};
        if (auto handled = handle(**record); !handled) return handled;
    }
}

Result<void> GuestSession::handle(Control& record) {
    if (std::holds_alternative<SessionSpec>(record) == has_spec_)
        return fail(Errc::corrupt, "a session begins with its specification, and has one");
    const auto act = [this]<class T>(T& control) {
        if constexpr (std::is_same_v<T, SessionSpec>) {
            has_spec_ = true;
            on_spec(std::move(control));
        } else if constexpr (std::is_same_v<T, InputEnd>) {
            input_length_ = control.offset;
            if (!ended_) on_input();
        } else if constexpr (std::is_same_v<T, Signal>) {
            if (!ended_) on_signal(control.number);
        } else if constexpr (std::is_same_v<T, TerminalSize>) {
            if (!ended_) on_resize(control);
        } else if constexpr (std::is_same_v<T, Detach>) {
            become(Consumer::detached);
        } else if constexpr (std::is_same_v<T, Release>) {
            become(Consumer::holding);
        } else if constexpr (std::is_same_v<T, Attach>) {
            become(Consumer::attached);
        } else {
            static_assert(std::is_same_v<T, Cancel>);
            on_cancel();
        }
    };
    std::visit(act, record);
    return {};
}

Result<void> GuestSession::acknowledged(StreamId stream, std::uint64_t offset) {
    switch (stream) {
        case StreamId::events:
            return events_.acknowledge(offset);
        case StreamId::out:
        case StreamId::err: {
            const OutputStream which = stream == StreamId::out ? OutputStream::out : OutputStream::err;
            if (auto done = output(which).acknowledge(offset); !done) return done;
            if (!ended_) on_output_room(which);
            return {};
        }
        case StreamId::input:
        case StreamId::control:
            break;
    }
    return fail(Errc::corrupt, "acknowledgement of a stream that the host sends");
}

Result<ResumedOffsets> GuestSession::resume(const ResumeOffsets& has) {
    ResumedOffsets resumed;
    resumed.output.out = std::max(has.output.out, out_.base());
    resumed.output.err = std::max(has.output.err, err_.base());
    if (resumed.output.out > out_.end() || resumed.output.err > err_.end() || has.events > events_.end())
        return fail(Errc::conflict, "the guest is at an earlier point of this session than the host");
    for (const auto& done : {out_.rewind(resumed.output.out), err_.rewind(resumed.output.err),
                             events_.rewind(std::max(has.events, events_.base()))}) {
        if (!done) return fail(done.error());
    }
    resumed.input = input_.received();
    resumed.control = control_.received();
    input_.announce_again();
    control_.announce_again();
    become(Consumer::attached);
    on_output();
    return resumed;
}

void GuestSession::become(Consumer consumer) {
    if (consumer_ == consumer) return;
    consumer_ = consumer;
    on_consumer();
    if (consumer == Consumer::detached && !ended_) {
        on_output_room(OutputStream::out);
        on_output_room(OutputStream::err);
    }
    on_output();
}

bool GuestSession::gather(std::string& out, std::uint32_t epoch, std::size_t budget) {
    const auto acknowledge = [&](StreamId stream, ReceiveStream& receiver) {
        if (!receiver.due()) return;
        append_frame(out,
                     {.type = FrameType::ack,
                      .stream = stream,
                      .epoch = epoch,
                      .id = id_.value,
                      .offset = receiver.announce()},
                     {});
    };
    acknowledge(StreamId::control, control_);
    acknowledge(StreamId::input, input_);
    if (consumer_ != Consumer::attached) return false;
    const std::size_t limit = out.size() + budget;
    // Events come last: whoever reads them in order has the output that they are about.
    const std::pair<StreamId, SendStream*> in_turn[] = {
        {StreamId::out, &out_}, {StreamId::err, &err_}, {StreamId::events, &events_}};
    for (const auto& [stream, sender] : in_turn) {
        while (true) {
            const std::string_view bytes = sender->pending(max_payload);
            if (bytes.empty()) break;
            if (out.size() >= limit) return true;
            append_frame(out,
                         {.type = FrameType::data,
                          .stream = stream,
                          .epoch = epoch,
                          .id = id_.value,
                          .offset = sender->sent()},
                         bytes);
            sender->advance(bytes.size());
        }
    }
    return false;
}

void GuestSession::opened(Opened facts) {
    emit(facts);
}

void GuestSession::output_written(OutputStream stream, std::size_t count) {
    output(stream).commit(count);
    on_output();
}

std::size_t GuestSession::write_output(OutputStream stream, std::string_view bytes) {
    auto& sender = output(stream);
    if (consumer_ == Consumer::detached) {
        const std::uint64_t before = sender.base();
        sender.make_room(bytes.size());
        (stream == OutputStream::err ? dropped_.err : dropped_.out) += sender.base() - before;
    }
    const std::size_t taken = sender.append(bytes);
    on_output();
    return taken;
}

void GuestSession::end_output(OutputStream stream) {
    bool& ended = output_ended_[stream == OutputStream::err ? 1 : 0];
    if (std::exchange(ended, true)) return;
    emit(OutputEnd{stream, output(stream).end()});
}

void GuestSession::end(SessionEnd how) {
    if (ended_) return;
    end_output(OutputStream::out);
    end_output(OutputStream::err);
    if (how.message.size() > max_message) how.message.resize(max_message);
    ended_ = how;
    input_bytes_.discard(input_bytes_.size());
    input_.consume(input_.received());
    emit(std::move(how));
}

void GuestSession::input_taken(std::size_t count) {
    input_bytes_.discard(count);
    input_.consume(input_.consumed() + count);
    on_output();
}

void GuestSession::emit(const SessionEvent& event) {
    std::string record;
    append_record(record, event);
    events_.append(record);
    on_output();
}

}  // namespace noid::proto
