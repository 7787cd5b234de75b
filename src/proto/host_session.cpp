#include "proto/host_session.hpp"

#include <algorithm>
#include <utility>

namespace noid::proto {
namespace {

// Beyond what any session can produce; keeps sums of offsets from a guest within 64 bits.
constexpr std::uint64_t max_offset = std::uint64_t{1} << 62;
// Small pieces of output are put together up to this size, ...
constexpr std::size_t max_piece = max_payload;
// ... and whatever their size when so many events wait, so that a guest that sends single bytes of
// two streams in turn cannot make the host hold an event for each.
constexpr std::size_t many_events = 64;
// Signals are refused when less than this is left: the records that end things must fit.
constexpr std::size_t control_reserve = 4096;

}  // namespace

HostSession::HostSession(SessionId id, std::string_view spec) : id_{id}, need_open_{true} {
    control_.append(spec);
}

HostSession::HostSession(SessionId id, OutputOffsets have)
    : id_{id}, open_sent_{true}, known_{true}, need_resume_{true}, new_streams_{true}, new_consumer_{have} {}

// ---- for the consumer ----

std::optional<HostSession::Event> HostSession::next_event() {
    // Output may overtake the facts about it, which come on a stream of their own.
    if (queue_.empty() || !(opened_ || ended_)) return std::nullopt;
    Event event = std::move(queue_.front());
    queue_.pop_front();
    if (const auto* piece = std::get_if<OutputBytes>(&event))
        output(piece->stream).delivered = piece->offset + piece->bytes.size();
    return event;
}

void HostSession::acknowledge(OutputStream stream, std::uint64_t offset) {
    Output& from = output(stream);
    from.stream.consume(std::min(offset, from.delivered));
    if (from.stream.urgent()) on_output();
}

std::size_t HostSession::write(std::string_view bytes) {
    const std::size_t taken = input_.append(bytes);
    if (taken > 0) on_output();
    return taken;
}

void HostSession::close_input() {
    if (std::exchange(input_closed_, true)) return;
    add_control(InputEnd{input_.end()});
}

void HostSession::signal(int number) {
    if (control_.room() >= control_reserve) add_control(Signal{number});
}

void HostSession::resize(TerminalSize size) {
    // Only the newest size counts; it goes out when nothing else of the control stream waits.
    new_size_ = size;
    on_output();
}

void HostSession::leave(Leave how) {
    if (leave_ == Leave::cancel) return;
    leave_ = how;
    leave_queued_ = false;
    queue_.clear();
    if (!open_sent_ && (how == Leave::cancel || how == Leave::collect)) left_ = true;
    if (failure_) left_ = true;
    if (left_) on_change();
    on_output();
}

void HostSession::hand_over(OutputOffsets have) {
    if (leave_queued_) add_control(Attach{});
    leave_.reset();
    leave_queued_ = false;
    left_ = false;
    queue_.clear();
    events_ = ReceiveStream{events_window};
    event_records_ = {};
    opened_ = end_queued_ = false;
    ended_.reset();
    out_ = {};
    err_ = {};
    new_consumer_ = have;
    need_resume_ = true;
    on_output();
}

// ---- for HostPeer ----

Result<void> HostSession::receive(StreamId stream, std::uint64_t offset, std::string_view bytes) {
    // Between an attach and its answer come frames for the consumer before.
    if (leave_ || failure_ || need_resume_ || awaited_token_ || !open_sent_) return {};
    known_ = true;
    switch (stream) {
        case StreamId::out:
            return receive_output(OutputStream::out, offset, bytes);
        case StreamId::err:
            return receive_output(OutputStream::err, offset, bytes);
        case StreamId::events:
            return receive_events(offset, bytes);
        case StreamId::input:
        case StreamId::control:
            break;
    }
    return fail(Errc::corrupt, "bytes for a stream that the host sends");
}

Result<void> HostSession::receive_output(OutputStream stream, std::uint64_t offset, std::string_view bytes) {
    Output& to = output(stream);
    const std::uint64_t place = to.stream.received();
    const auto fresh = to.stream.accept(offset, bytes);
    if (!fresh) return fail(fresh.error());
    if (to.length && to.stream.received() > *to.length) return fail(Errc::corrupt, "output after its end");
    if (fresh->empty()) return {};
    queue_bytes(stream, place, *fresh);
    queue_ends();
    on_change();
    return {};
}

void HostSession::queue_bytes(OutputStream stream, std::uint64_t offset, std::string_view bytes) {
    for (auto event = queue_.rbegin(); event != queue_.rend(); ++event) {
        if (auto* piece = std::get_if<OutputBytes>(&*event); piece && piece->stream == stream) {
            if (queue_.size() < many_events && piece->bytes.size() + bytes.size() > max_piece) break;
            piece->bytes.append(bytes);
            return;
        }
        if (const auto* dropped = std::get_if<OutputDropped>(&*event); dropped && dropped->stream == stream)
            break;
        if (queue_.size() < many_events) break;
    }
    queue_.emplace_back(OutputBytes{stream, offset, std::string{bytes}});
}

void HostSession::queue_ends() {
    for (const OutputStream stream : {OutputStream::out, OutputStream::err}) {
        Output& from = output(stream);
        if (from.closed || from.length != from.stream.received()) continue;
        from.closed = true;
        queue_.emplace_back(OutputClosed{stream});
    }
    if (ended_ && !end_queued_ && out_.closed && err_.closed) {
        end_queued_ = true;
        queue_.emplace_back(*ended_);
    }
}

Result<void> HostSession::receive_events(std::uint64_t offset, std::string_view bytes) {
    const auto fresh = events_.accept(offset, bytes);
    if (!fresh) return fail(fresh.error());
    event_records_.feed(*fresh);
    while (true) {
        auto record = event_records_.next();
        if (!record) return fail(record.error());
        if (!*record) break;
        if (auto handled = handle(**record); !handled) return handled;
    }
    queue_ends();
    on_change();
    return {};
}

Result<void> HostSession::handle(SessionEvent& event) {
    if (ended_) return fail(Errc::corrupt, "an event after a session's end");
    if (auto* opened = std::get_if<Opened>(&event)) {
        if (std::exchange(opened_, true)) return fail(Errc::corrupt, "a session that is opened twice");
        queue_.emplace_front(std::move(*opened));
        return {};
    }
    if (const auto* end = std::get_if<OutputEnd>(&event)) {
        Output& from = output(end->stream);
        if (from.length || end->offset < from.stream.received() || end->offset > max_offset)
            return fail(Errc::corrupt, "an output's end that does not fit it");
        from.length = end->offset;
        return {};
    }
    if (!out_.length || !err_.length) return fail(Errc::corrupt, "a session's end before its output's");
    ended_ = std::move(std::get<SessionEnd>(event));
    return {};
}

Result<void> HostSession::acknowledged(StreamId stream, std::uint64_t offset) {
    if (need_resume_ || awaited_token_ || !open_sent_) return {};
    known_ = true;
    if (stream != StreamId::input && stream != StreamId::control)
        return fail(Errc::corrupt, "acknowledgement of a stream that the guest sends");
    if (auto done = (stream == StreamId::input ? input_ : control_).acknowledge(offset); !done) return done;
    check_left();
    on_change();
    return {};
}

Result<void> HostSession::resumed(std::uint64_t token, const ResumedOffsets& offsets) {
    if (awaited_token_ != token) return {};
    awaited_token_.reset();
    known_ = true;
    if (std::max({offsets.input, offsets.control, offsets.output.out, offsets.output.err}) > max_offset)
        return fail(Errc::corrupt, "an offset beyond every bound");
    if (std::exchange(new_streams_, false)) {
        control_.start_at(offsets.control);
        input_.start_at(offsets.input);
    } else if (!control_.rewind(offsets.control) || !input_.rewind(offsets.input)) {
        // A guest that was set back to an earlier point of its life.
        gone(Error{Errc::conflict, "the guest is at another point of this session than the host"});
        return {};
    }
    const auto have = std::exchange(new_consumer_, std::nullopt);
    for (const auto& [stream, theirs, ours] :
         {std::tuple{OutputStream::out, offsets.output.out, have ? have->out : out_.stream.received()},
          std::tuple{OutputStream::err, offsets.output.err, have ? have->err : err_.stream.received()}}) {
        if (theirs < ours) return fail(Errc::corrupt, "a session that goes on before the place asked for");
        ReceiveStream& receiver = output(stream).stream;
        if (have || theirs > ours) {
            receiver.start_at(theirs);
            output(stream).delivered = theirs;
        }
        receiver.announce_again();
        if (theirs > ours) queue_.emplace_back(OutputDropped{stream, theirs - ours});
        if (output(stream).length && theirs > *output(stream).length)
            return fail(Errc::corrupt, "a session that goes on behind its output's end");
    }
    if (!leave_) queue_ends();
    on_change();
    on_output();
    return {};
}

void HostSession::gone(Error why) {
    if (leave_)
        left_ = true;
    else if (!end_queued_)
        failure_ = std::move(why);
    on_change();
}

void HostSession::reconnected() {
    awaited_token_.reset();
    need_resume_ = open_sent_;
    // A session that is to be killed need not be begun for it.
    need_open_ = !known_ && leave_ != Leave::cancel;
    leave_queued_ = false;
    on_output();
}

void HostSession::take_leave() {
    leave_queued_ = true;
    switch (*leave_) {
        case Leave::detach:
            return add_control(Detach{});
        case Leave::release:
            return add_control(Release{});
        case Leave::cancel:
            return add_control(Cancel{});
        case Leave::collect:
            events_.consume(events_.received());
            events_.announce_again();
    }
}

void HostSession::check_left() {
    // Killed and collected sessions are left when the guest says that they are gone.
    if ((leave_ == Leave::detach || leave_ == Leave::release) && leave_queued_ && control_.drained() &&
        input_.drained())
        left_ = true;
}

bool HostSession::gather(std::string& out, std::uint32_t epoch, std::size_t budget) {
    if (left_ || failure_) return false;
    const std::size_t limit = out.size() + budget;
    const auto frame = [&](FrameType type, StreamId stream, std::uint64_t offset, std::string_view payload) {
        append_frame(out, {.type = type, .stream = stream, .epoch = epoch, .id = id_.value, .offset = offset},
                     payload);
    };
    if (std::exchange(need_open_, false)) {
        frame(FrameType::open, StreamId::control, 0, {});
        open_sent_ = true;
    }
    if (std::exchange(need_resume_, false)) {
        awaited_token_ = ++last_token_;
        const ResumeOffsets has{.output = new_consumer_
                                              ? *new_consumer_
                                              : OutputOffsets{out_.stream.received(), err_.stream.received()},
                                .events = events_.received()};
        frame(FrameType::resume, StreamId::control, *awaited_token_, encode(has));
    }
    if (awaited_token_) return false;

    if (new_size_ && control_.pending(1).empty()) add_control(*std::exchange(new_size_, std::nullopt));
    if (leave_ && !leave_queued_) take_leave();
    for (auto& [stream, receiver] : {std::pair{StreamId::out, &out_.stream},
                                     {StreamId::err, &err_.stream},
                                     {StreamId::events, &events_}}) {
        if (receiver->due()) frame(FrameType::ack, stream, receiver->announce(), {});
    }
    const std::pair<StreamId, SendStream*> in_turn[] = {{StreamId::control, &control_},
                                                        {StreamId::input, &input_}};
    for (const auto& [stream, sender] : in_turn) {
        while (true) {
            const std::string_view bytes = sender->pending(max_payload);
            if (bytes.empty()) break;
            if (out.size() >= limit) return true;
            frame(FrameType::data, stream, sender->sent(), bytes);
            sender->advance(bytes.size());
        }
    }
    return new_size_.has_value();
}

void HostSession::add_control(const Control& record) {
    std::string bytes;
    append_record(bytes, record);
    control_.append(bytes);
    on_output();
}

}  // namespace noid::proto
