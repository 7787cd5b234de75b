#include "agent/agent.hpp"

#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <deque>
#include <exception>
#include <filesystem>
#include <list>
#include <map>
#include <memory>
#include <system_error>
#include <utility>

#include "agent/cgroups.hpp"
#include "agent/children.hpp"
#include "agent/device_events.hpp"
#include "agent/event_loop.hpp"
#include "agent/identity.hpp"
#include "agent/kernel_log.hpp"
#include "agent/link.hpp"
#include "agent/operation.hpp"
#include "agent/power.hpp"
#include "agent/session.hpp"
#include "agent/statistics.hpp"
#include "agent/text_file.hpp"
#include "proto/guest_peer.hpp"

namespace noid::agent {
namespace {

using proto::SessionId;
using namespace std::chrono_literals;

constexpr std::size_t write_size = 256 * 1024;
// Connections that have not said hello.
constexpr std::size_t max_links = 8;
// Sessions that were forgotten, so that a host that did not hear of it cannot begin them again.
constexpr std::size_t remembered_sessions = 1024;
// Output of sessions that have ended and that nobody listens to, in all.
constexpr std::uint64_t max_ended_output = 16 * 1024 * 1024;
// The devices come from modules that the initrd loads.
constexpr auto device_limit = 60s;

class Agent final : private Link::Handler, private proto::GuestPeer::Handler {
  public:
    explicit Agent(bool own_machine) : own_machine_{own_machine} {
        if (own_machine_) context_.environment = load_machine_environment();
        loop_.after_each_turn([this] { end_turn(); });
    }
    Agent(const Agent&) = delete;
    Agent& operator=(const Agent&) = delete;
    ~Agent() {
        // While the peer, the children and the cgroups that they use are there.
        sessions_.clear();
    }

    void add_link(Fd fd, Link::Kind kind);
    void listen(Fd socket);
    // Where connections are asked for when there is none, besides listening.
    void dial(std::function<Fd()> dial) {
        dial_ = std::move(dial);
        if (Fd fd = dial_()) add_link(std::move(fd), Link::Kind::socket);
    }
    void stop_without_links() noexcept { stop_without_links_ = true; }
    void run() { loop_.run(); }

  private:
    // ---- transports ----
    void on_frame(Link& link, const proto::Frame& frame) override;
    void on_out_of_step(Link& link) override;
    void on_host_away(Link& link) override;
    void on_writable(Link& link) override { send(link); }
    void make_active(Link& link);
    void send(Link& link);
    void accept();
    void end_turn();

    // ---- the protocol ----
    proto::AgentInfo info() override;
    Result<proto::GuestSession*> open(SessionId id) override;
    proto::GuestSession* find(SessionId id) override;
    void handle(std::uint64_t request, proto::Request message) override;
    void host_lost() override;

    [[nodiscard]] proto::Reply answer(const proto::ListSessions& request) const;
    [[nodiscard]] Result<void> renew(const proto::Identity& identity);
    void forget(SessionId id);
    void forget_what_is_over();
    void bound_ended_output();

    EventLoop loop_;
    Children children_{loop_};
    Cgroups cgroups_;
    Context context_{loop_, children_, cgroups_, {}, [this](SessionId id) { return find(id); }};
    proto::GuestPeer peer_{*this};
    std::map<SessionId, std::unique_ptr<Session>> sessions_;
    std::deque<SessionId> forgotten_;
    std::uint64_t generation_ = 0;
    bool own_machine_;

    std::list<std::unique_ptr<Link>> links_;
    Link* active_ = nullptr;  // the one that said hello last
    struct Listener {
        Fd socket;
        EventLoop::Watch watch;
    };
    std::optional<Listener> listener_;
    std::function<Fd()> dial_;
    bool dial_again_ = false;
    bool stop_without_links_ = false;

    struct StopSignals {
        StopSignals() {
            ::sigemptyset(&set);
            ::sigaddset(&set, SIGTERM);
            ::sigaddset(&set, SIGINT);
            ::sigprocmask(SIG_BLOCK, &set, nullptr);
            descriptor.reset(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
        }
        sigset_t set{};
        Fd descriptor;
    };
    StopSignals stop_signals_;
    EventLoop::Watch stop_watch_{loop_, stop_signals_.descriptor.get(), [this](std::uint32_t events) {
                                     if ((events & EPOLLIN) != 0) loop_.stop();
                                 }};
};

// ---- transports ----

void Agent::add_link(Fd fd, Link::Kind kind) {
    if (links_.size() >= max_links) {
        const auto oldest = std::ranges::find_if(links_, [this](const auto& link) {
            return link.get() != active_ && link->kind() == Link::Kind::socket;
        });
        if (oldest != links_.end()) links_.erase(oldest);
    }
    Link::Handler& handler = *this;
    links_.push_back(std::make_unique<Link>(loop_, std::move(fd), kind, handler));
}

void Agent::listen(Fd socket) {
    listener_.emplace();
    listener_->socket = std::move(socket);
    listener_->watch = EventLoop::Watch{loop_, listener_->socket.get(), [this](std::uint32_t) { accept(); }};
}

void Agent::accept() {
    while (true) {
        Fd fd{::accept4(listener_->socket.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
        if (!fd && (errno == EINTR || errno == ECONNABORTED)) continue;
        if (!fd) return;
        add_link(std::move(fd), Link::Kind::socket);
    }
}

void Agent::make_active(Link& link) {
    if (active_ && active_ != &link) {
        active_->drop_output();
        if (active_->kind() == Link::Kind::socket) active_->close();
    }
    active_ = &link;
    // What was not written belongs to the connection before.
    link.drop_output();
}

void Agent::on_frame(Link& link, const proto::Frame& frame) {
    if (frame.header.type == proto::FrameType::hello)
        make_active(link);
    else if (&link != active_)
        return;
    if (const auto done = peer_.receive(frame); !done) {
        kernel_log(LogLevel::error, "the host broke the agent protocol: " + done.error().what);
        on_out_of_step(link);
    }
}

void Agent::on_out_of_step(Link& link) {
    if (&link == active_) peer_.out_of_step();
}

void Agent::on_host_away(Link& link) {
    if (&link != active_) return;
    active_ = nullptr;
    peer_.disconnected();
    dial_again_ = static_cast<bool>(dial_);
}

void Agent::send(Link& link) {
    if (&link != active_) return;
    while (link.wants_output() && peer_.wants_to_send()) {
        peer_.gather(link.output(), write_size);
        if (link.output().empty()) return;
        link.flush();
    }
}

void Agent::end_turn() {
    forget_what_is_over();
    if (active_) send(*active_);
    std::erase_if(links_, [](const auto& link) { return !link->alive(); });
    if (std::exchange(dial_again_, false)) {
        if (Fd fd = dial_()) add_link(std::move(fd), Link::Kind::socket);
    }
    if (stop_without_links_ && links_.empty()) loop_.stop();
}

// ---- the protocol ----

proto::AgentInfo Agent::info() {
    proto::AgentInfo info = read_agent_info();
    info.generation = generation_;
    return info;
}

Result<proto::GuestSession*> Agent::open(SessionId id) {
    if (const auto found = sessions_.find(id); found != sessions_.end()) return found->second.get();
    if (std::ranges::find(forgotten_, id) != forgotten_.end())
        return fail(Errc::not_found, "this session has ended and was forgotten");
    if (sessions_.size() >= proto::max_sessions) {
        const auto idle = std::ranges::find_if(sessions_, [](const auto& entry) {
            return entry.second->ended() &&
                   entry.second->consumer() != proto::GuestSession::Consumer::attached;
        });
        if (idle == sessions_.end())
            return fail(Errc::limit_exceeded,
                        "the machine has " + std::to_string(proto::max_sessions) + " sessions already");
        forget(idle->first);
    }
    auto session = std::make_unique<Session>(context_, peer_, id);
    return sessions_.emplace(id, std::move(session)).first->second.get();
}

proto::GuestSession* Agent::find(SessionId id) {
    const auto found = sessions_.find(id);
    return found == sessions_.end() ? nullptr : found->second.get();
}

void Agent::host_lost() {
    using Consumer = proto::GuestSession::Consumer;
    for (const auto& [id, session] : sessions_) {
        if (session->consumer() == Consumer::attached) session->become(Consumer::holding);
    }
}

void Agent::forget(SessionId id) {
    sessions_.erase(id);
    forgotten_.push_back(id);
    if (forgotten_.size() > remembered_sessions) forgotten_.pop_front();
    peer_.gone(id, {static_cast<std::uint8_t>(Errc::not_found), "the session has ended"});
}

void Agent::forget_what_is_over() {
    std::vector<SessionId> over;
    bool idle = false;
    for (const auto& [id, session] : sessions_) {
        if (session->over()) over.push_back(id);
        idle |= session->ended() && session->consumer() != proto::GuestSession::Consumer::attached;
    }
    for (const SessionId id : over) forget(id);
    if (idle) bound_ended_output();
}

void Agent::bound_ended_output() {
    while (true) {
        std::uint64_t held = 0;
        const Session* oldest = nullptr;
        std::int64_t oldest_start = 0;
        for (const auto& [id, session] : sessions_) {
            if (!session->ended() || session->consumer() == proto::GuestSession::Consumer::attached) continue;
            held += session->held();
            const std::int64_t started = session->info().started;
            if (oldest && started >= oldest_start) continue;
            oldest = session.get();
            oldest_start = started;
        }
        if (held <= max_ended_output || !oldest) return;
        forget(oldest->id());
    }
}

proto::Reply Agent::answer(const proto::ListSessions& request) const {
    proto::SessionPage page;
    for (auto entry = sessions_.upper_bound(request.after); entry != sessions_.end(); ++entry) {
        if (page.sessions.size() == proto::max_page) {
            page.more = true;
            break;
        }
        page.sessions.push_back(entry->second->info());
    }
    return page;
}

Result<void> Agent::renew(const proto::Identity& identity) {
    if (identity.end_sessions) {
        while (!sessions_.empty()) forget(sessions_.begin()->first);
    }
    context_.environment = identity.env;
    if (!own_machine_) return {};
    if (auto saved = save_machine_environment(identity.env); !saved) return saved;
    return renew_identity(identity);
}

void Agent::handle(std::uint64_t request, proto::Request message) {
    const auto result = [&](const Result<void>& done) {
        if (done) return peer_.reply(request, proto::Done{});
        kernel_log(LogLevel::error, done.error().full());
        peer_.reply(request, proto::Failure{static_cast<std::uint8_t>(done.error().code), done.error().what});
    };
    const auto act = [&]<class T>(const T& wanted) {
        if constexpr (std::is_same_v<T, proto::Ping>) {
            peer_.reply(request, proto::Done{});
        } else if constexpr (std::is_same_v<T, proto::ListSessions>) {
            peer_.reply(request, answer(wanted));
        } else if constexpr (std::is_same_v<T, proto::GetStats>) {
            peer_.reply(request, read_guest_stats());
        } else if constexpr (std::is_same_v<T, proto::Identity>) {
            const auto renewed = renew(wanted);
            if (renewed) ++generation_;
            result(renewed);
        } else {
            static_assert(std::is_same_v<T, proto::ShutDown>);
            if (!own_machine_) return result(fail(Errc::unsupported, "this agent has no machine of its own"));
            result(request_power_off());
        }
    };
    std::visit(act, message);
}

// ---- finding the host ----

Fd open_port() {
    namespace fs = std::filesystem;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator{"/sys/class/virtio-ports", error}) {
        const auto name = read_text_file(entry.path() / "name", 256).value_or("");
        if (name.substr(0, name.find('\n')) != proto::virtio_port_name) continue;
        const auto device = fs::path{"/dev"} / entry.path().filename();
        return Fd{::open(device.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK)};
    }
    return {};
}

Fd vsock() {
    return Fd{::socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
}

sockaddr_vm vsock_address(unsigned int cid) {
    sockaddr_vm address{};
    address.svm_family = AF_VSOCK;
    address.svm_cid = cid;
    address.svm_port = proto::vsock_port;
    return address;
}

// Nothing where the machine has no vsock device.
Fd listen_vsock() {
    if (::access("/dev/vsock", F_OK) != 0) return {};
    Fd socket = vsock();
    const sockaddr_vm address = vsock_address(VMADDR_CID_ANY);
    if (!socket || ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(socket.get(), 8) != 0)
        return {};
    return socket;
}

// Tells the host that the agent is up; a host that does not listen refuses, and then connects itself.
Fd dial_vsock() {
    Fd socket = vsock();
    const sockaddr_vm address = vsock_address(VMADDR_CID_HOST);
    if (!socket ||
        (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 &&
         errno != EINPROGRESS))
        return {};
    return socket;
}

Fd listen_unix(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path) return {};
    path.copy(address.sun_path, path.size());
    Fd socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    ::unlink(path.c_str());
    if (!socket || ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(socket.get(), 8) != 0)
        return {};
    return socket;
}

Result<void> find_host(Agent& agent, const Options& options) {
    if (options.socket) {
        Fd socket{*options.socket};
        const int flags = ::fcntl(socket.get(), F_GETFL);
        if (flags < 0 || ::fcntl(socket.get(), F_SETFL, flags | O_NONBLOCK) != 0 ||
            ::fcntl(socket.get(), F_SETFD, FD_CLOEXEC) != 0)
            return fail_errno(errno, "use the inherited socket");
        agent.stop_without_links();
        agent.add_link(std::move(socket), Link::Kind::socket);
        return {};
    }
    if (options.listen_unix) {
        Fd socket = listen_unix(*options.listen_unix);
        if (!socket) return fail_errno(errno, "listen on " + *options.listen_unix);
        agent.listen(std::move(socket));
        return {};
    }
    auto events = DeviceEvents::open();
    if (!events) return fail(events.error());
    Fd port;
    Fd socket;
    const auto found = [&] {
        if (!port) port = open_port();
        if (!socket) socket = listen_vsock();
        return port || socket;
    };
    if (auto there = events->wait_until(found, device_limit); !there)
        return fail(
            Errc::unavailable,
            "no virtio-serial port (QEMU) and no vsock device (Firecracker) to serve the host on: this "
            "kernel needs CONFIG_VIRTIO_CONSOLE or CONFIG_VIRTIO_VSOCKETS, built in or in the initrd");
    if (port) agent.add_link(std::move(port), Link::Kind::port);
    if (socket) {
        agent.listen(std::move(socket));
        agent.dial(&dial_vsock);
    }
    return {};
}

}  // namespace

int run(const Options& options) {
    try {
        ::signal(SIGPIPE, SIG_IGN);
        Agent agent{!options.socket && !options.listen_unix};
        if (const auto found = find_host(agent, options); !found) {
            kernel_log(LogLevel::error, found.error().what);
            return 1;
        }
        agent.run();
        return 0;
    } catch (const std::exception& error) {
        kernel_log(LogLevel::error, error.what());
        return 1;
    }
}

}  // namespace noid::agent
