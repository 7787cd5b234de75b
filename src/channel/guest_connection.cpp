#include "channel/guest_connection.hpp"

#include <algorithm>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/write.hpp>
#include <utility>

#include "base/log.hpp"
#include "base/random.hpp"
#include "channel/guest_session.hpp"

namespace noid::channel {
namespace {

using namespace std::chrono_literals;

// Many frames in one write: the guest is woken once for them.
constexpr std::size_t write_size = 256 * 1024;
constexpr std::chrono::milliseconds first_retry = 20ms;
constexpr std::chrono::milliseconds last_retry = 1s;
constexpr auto first_hello_repeat = 300ms;
constexpr auto last_hello_repeat = 30s;
// A cut frame makes for one; an agent that asks again and again is not one of ours.
constexpr int max_resyncs = 8;

template <class Number>
Number random_number() {
    Number number = 0;
    fill_random(&number, sizeof number);
    return number;
}

Error from_guest(const proto::Failure& failure) {
    const auto code = failure.errc <= static_cast<std::uint8_t>(Errc::internal)
                          ? static_cast<Errc>(failure.errc)
                          : Errc::internal;
    return {code, failure.message};
}

std::unexpected<Error> unexpected_reply() {
    return fail(Errc::corrupt, "the agent gave an answer to something else");
}

}  // namespace

// Somebody waits for a reply, with this on its frame.
struct GuestConnection::Question {
    explicit Question(const asio::any_io_executor& strand) : answered{strand} {}
    std::optional<proto::Reply> reply;
    Wakeup answered;
};

std::shared_ptr<AgentChannel> AgentChannel::create(asio::any_io_executor strand, Connect connect) {
    return std::make_shared<GuestConnection>(std::move(strand), std::move(connect));
}

GuestConnection::GuestConnection(asio::any_io_executor strand, Connect connect)
    : strand_{strand},
      connect_{std::move(connect)},
      hello_timer_{strand},
      retry_timer_{strand},
      changed_{strand} {}

GuestConnection::~GuestConnection() = default;

// ---- life ----

void GuestConnection::start() {
    if (std::exchange(started_, true) || stopped_) return;
    auto work = [self = shared_from_this()]() -> Awaitable<void> { co_await self->run(); };
    asio::co_spawn(strand_, std::move(work),
                   asio::bind_cancellation_slot(stop_signal_.slot(),
                                                [self = shared_from_this()](std::exception_ptr thrown) {
                                                    if (thrown && !self->stopped_)
                                                        log::exception("agent channel", thrown);
                                                }));
}

void GuestConnection::stop() {
    if (std::exchange(stopped_, true)) return;
    close_transport();
    stop_signal_.emit(asio::cancellation_type::terminal);
    const auto sessions = peer_.sessions();
    for (const auto& [id, session] : sessions) {
        session->gone(Error{Errc::unavailable, "the virtual machine is gone"});
        peer_.remove(id);
    }
    for (const auto& [id, question] : questions_) question->answered.notify();
    changed_.notify();
}

Awaitable<void> GuestConnection::run() {
    auto retry = first_retry;
    while (!stopped_) {
        while (held_ && !stopped_) co_await changed_.wait();
        if (stopped_) co_return;
        reconnect_at_once_ = false;
        auto socket = co_await connect_();
        if (stopped_) co_return;
        if (!socket) {
            last_error_ = std::move(socket.error());
        } else {
            const auto began = std::chrono::steady_clock::now();
            if (co_await serve(std::make_shared<Transport>(std::move(*socket)))) retry = first_retry;
            if (stopped_) co_return;
            // A snapshot breaks the connection: no time is to be lost then. But a guest that breaks it all
            // the time must not keep the server busy.
            if (std::chrono::steady_clock::now() - began > last_retry) continue;
        }
        if (reconnect_at_once_) continue;
        retry_timer_.expires_after(retry);
        boost::system::error_code ignored;
        co_await retry_timer_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
        retry = std::min(retry * 2, last_retry);
    }
}

Awaitable<bool> GuestConnection::serve(std::shared_ptr<Transport> transport) {
    transport_ = transport;
    resyncs_ = 0;
    greet(true);
    bool well = false;
    while (transport == transport_) {
        const auto space = peer_.space();
        boost::system::error_code error;
        const std::size_t count = co_await transport->socket.async_read_some(
            asio::buffer(space.data(), space.size()), asio::redirect_error(asio::use_awaitable, error));
        if (error || transport != transport_) break;
        auto taken = peer_.received(count);
        if (taken && resyncs_ > max_resyncs)
            taken = fail(Errc::corrupt, "the agent loses its place in the byte stream all the time");
        well = taken && peer_.established();
        if (!taken) {
            log::warn("agent connection closed", {{"reason", taken.error().what}});
            last_error_ = std::move(taken.error());
            break;
        }
        flush();
    }
    if (transport == transport_) close_transport();
    co_return well;
}

void GuestConnection::close_transport() {
    hello_timer_.cancel();
    peer_.disconnected();
    info_.reset();
    if (const auto transport = std::exchange(transport_, nullptr)) {
        boost::system::error_code ignored;
        transport->socket.close(ignored);
    }
    changed_.notify();
}

// ---- the handshake ----

void GuestConnection::greet(bool new_transport) {
    info_.reset();
    peer_.begin(random_number<std::uint64_t>(), random_number<std::uint32_t>(), new_transport);
    hello_interval_ = first_hello_repeat;
    plan_next_hello();
    flush();
}

// No answer yet: the guest boots, or it took the hello for the rest of a frame that was cut. Growing
// intervals, as what is not read waits in the VMM.
void GuestConnection::plan_next_hello() {
    hello_timer_.expires_after(hello_interval_);
    hello_timer_.async_wait([weak = weak_from_this()](boost::system::error_code error) {
        const auto self = weak.lock();
        if (error || !self || !self->transport_ || self->peer_.established()) return;
        if (!self->transport_->writing) self->peer_.repeat_hello();
        self->hello_interval_ =
            std::min(self->hello_interval_ * 2, std::chrono::milliseconds{last_hello_repeat});
        self->plan_next_hello();
        self->flush();
    });
}

void GuestConnection::handshaken(proto::AgentInfo info) {
    hello_timer_.cancel();
    last_error_.reset();
    info_ = std::move(info);
    changed_.notify();
}

void GuestConnection::resync() {
    if (++resyncs_ <= max_resyncs) greet(false);
}

Awaitable<Result<proto::AgentInfo>> GuestConnection::established() {
    while (true) {
        if (stopped_) co_return fail(Errc::unavailable, "the virtual machine is gone");
        if (info_) co_return *info_;
        if (last_error_ && last_error_->code == Errc::unsupported) co_return fail(*last_error_);
        co_await changed_.wait();
    }
}

Awaitable<Result<proto::AgentInfo>> GuestConnection::ready(std::chrono::milliseconds limit) {
    const auto self = shared_from_this();
    auto info = co_await within(limit, established());
    if (!info && info.error().code == Errc::timed_out) {
        std::string why = "the guest's agent did not answer in " + std::to_string(limit.count()) + " ms";
        if (last_error_) why += ": " + last_error_->what;
        co_return fail(Errc::timed_out, std::move(why));
    }
    co_return info;
}

// ---- traffic ----

void GuestConnection::flush() {
    forget_left_sessions();
    const auto transport = transport_;
    if (!transport || transport->writing || held_) return;
    transport->output.clear();
    peer_.gather(transport->output, write_size);
    if (transport->output.empty()) return;
    transport->writing = true;
    asio::async_write(transport->socket, asio::buffer(transport->output),
                      asio::bind_executor(strand_, [self = shared_from_this(), transport](
                                                       boost::system::error_code error, std::size_t) {
                          self->written(transport, error);
                      }));
}

void GuestConnection::written(const std::shared_ptr<Transport>& transport, boost::system::error_code error) {
    transport->writing = false;
    changed_.notify();
    if (transport != transport_) return;
    // The reading side sees a broken transport too, and ends it.
    if (!error) flush();
}

void GuestConnection::forget_left_sessions() {
    std::vector<proto::SessionId> left;
    for (const auto& [id, session] : peer_.sessions()) {
        if (session->left()) left.push_back(id);
    }
    for (const auto id : left) peer_.remove(id);
}

Awaitable<Result<void>> GuestConnection::hold_traffic() {
    const auto self = shared_from_this();
    held_ = true;
    while (!stopped_ && transport_ && transport_->writing) co_await changed_.wait();
    if (stopped_) co_return fail(Errc::unavailable, "the virtual machine is gone");
    co_return Result<void>{};
}

void GuestConnection::resume_traffic() {
    held_ = false;
    changed_.notify();
    flush();
}

void GuestConnection::reconnect() {
    reconnect_at_once_ = true;
    close_transport();
    retry_timer_.cancel();
}

// ---- sessions ----

Awaitable<Result<std::shared_ptr<Session>>> GuestConnection::open(proto::SessionSpec spec) {
    if (stopped_) co_return fail(Errc::unavailable, "the virtual machine is gone");
    if (attached_sessions() >= proto::max_sessions)
        co_return fail(Errc::limit_exceeded,
                       "the machine has " + std::to_string(proto::max_sessions) + " sessions already");
    // What the guest would refuse is refused here, with a reason for the caller.
    std::string record = proto::encode(proto::Control{std::move(spec)});
    if (record.size() > proto::max_spec_bytes)
        co_return fail(Errc::too_large, "command, arguments and environment are more than 1 MiB");
    const auto decoded = proto::decode<proto::Control>(record);
    if (!decoded) co_return fail(Errc::invalid, decoded.error().what);
    record.clear();
    proto::append_record(record, *decoded);

    const auto self = shared_from_this();
    const proto::SessionId id{random_number<std::uint64_t>()};
    auto state = std::make_shared<SessionState>(self, id, record);
    peer_.add(state);
    auto session = std::make_shared<GuestSession>(self, std::move(state));
    flush();
    co_return session;
}

Awaitable<Result<std::shared_ptr<Session>>> GuestConnection::attach(proto::SessionId id,
                                                                    proto::OutputOffsets have) {
    const auto self = shared_from_this();
    if (stopped_) co_return fail(Errc::unavailable, "the virtual machine is gone");
    using Leave = proto::HostSession::Leave;
    auto state = std::static_pointer_cast<SessionState>(peer_.find(id));
    if (state && (state->leaving_by(Leave::cancel) || state->leaving_by(Leave::collect)))
        co_return fail(Errc::not_found, "no such session");
    if (state && !state->failure()) {
        state->hand_over(have);
    } else {
        state = std::make_shared<SessionState>(self, id, have);
        peer_.add(state);
    }
    auto session = std::make_shared<GuestSession>(self, std::move(state));
    flush();
    if (auto attached = co_await session->attached(); !attached) co_return fail(std::move(attached.error()));
    co_return session;
}

std::size_t GuestConnection::attached_sessions() const {
    return static_cast<std::size_t>(std::ranges::count_if(peer_.sessions(), [](const auto& entry) {
        return !entry.second->leaving() && !entry.second->failure();
    }));
}

Awaitable<Result<std::vector<proto::SessionInfo>>> GuestConnection::sessions() {
    std::vector<proto::SessionInfo> all;
    proto::SessionId last;
    while (true) {
        auto reply = co_await ask(proto::ListSessions{last});
        if (!reply) co_return fail(std::move(reply.error()));
        auto* page = std::get_if<proto::SessionPage>(&*reply);
        if (!page) co_return unexpected_reply();
        for (auto& info : page->sessions) {
            // Ascending ids, and not more than there can be: a guest cannot keep us here.
            if (info.id <= last || all.size() >= proto::max_sessions)
                co_return fail(Errc::corrupt, "the agent gave a list of sessions that cannot be");
            last = info.id;
            all.push_back(std::move(info));
        }
        if (!page->more || page->sessions.empty()) co_return all;
    }
}

// ---- requests ----

void GuestConnection::replied(std::uint64_t request, proto::Reply reply) {
    const auto found = questions_.find(request);
    if (found == questions_.end()) return;
    found->second->reply = std::move(reply);
    found->second->answered.notify();
}

Awaitable<Result<proto::Reply>> GuestConnection::ask(proto::Request request) {
    const auto self = shared_from_this();
    std::string encoded = proto::encode(request);
    if (encoded.size() > proto::max_payload) co_return fail(Errc::too_large, "a request of more than 64 KiB");
    if (const auto decoded = proto::decode<proto::Request>(encoded); !decoded)
        co_return fail(Errc::invalid, decoded.error().what);

    const std::uint64_t id = next_question_++;
    Question question{strand_};
    questions_.emplace(id, &question);
    struct Forget {
        GuestConnection& connection;
        std::uint64_t id;
        ~Forget() {
            connection.questions_.erase(id);
            connection.peer_.forget_request(id);
        }
    };
    const Forget forget{*this, id};
    peer_.request(id, std::move(encoded));
    flush();
    while (!question.reply) {
        if (stopped_) co_return fail(Errc::unavailable, "the virtual machine is gone");
        co_await question.answered.wait();
    }
    if (const auto* failure = std::get_if<proto::Failure>(&*question.reply))
        co_return fail(from_guest(*failure));
    co_return std::move(*question.reply);
}

Awaitable<Result<void>> GuestConnection::ask_for_done(proto::Request request) {
    auto reply = co_await ask(std::move(request));
    if (!reply) co_return fail(std::move(reply.error()));
    if (!std::holds_alternative<proto::Done>(*reply)) co_return unexpected_reply();
    co_return Result<void>{};
}

Awaitable<Result<void>> GuestConnection::renew_identity(proto::Identity identity,
                                                        std::chrono::milliseconds limit) {
    // Made before the co_await: g++ 12 mishandles aggregates that are made inside one.
    proto::Request request{std::move(identity)};
    auto asking = ask_for_done(std::move(request));
    co_return co_await within(limit, std::move(asking));
}

Awaitable<Result<proto::GuestStats>> GuestConnection::stats() {
    auto reply = co_await ask(proto::GetStats{});
    if (!reply) co_return fail(std::move(reply.error()));
    const auto* stats = std::get_if<proto::GuestStats>(&*reply);
    if (!stats) co_return unexpected_reply();
    co_return *stats;
}

Awaitable<Result<void>> GuestConnection::ping() {
    co_return co_await ask_for_done(proto::Ping{});
}

Awaitable<Result<void>> GuestConnection::shut_down() {
    co_return co_await ask_for_done(proto::ShutDown{});
}

}  // namespace noid::channel
