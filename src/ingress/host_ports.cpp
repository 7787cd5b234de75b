#include "ingress/host_ports.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/write.hpp>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "base/log.hpp"
#include "ingress/guest_stream.hpp"
#include "ingress/tunnel.hpp"
#include "vm/operation_queue.hpp"

namespace noid::ingress {

namespace {

using namespace std::chrono_literals;
using asio::ip::tcp;
using boost::system::error_code;

constexpr auto as_result = asio::as_tuple(asio::use_awaitable);
constexpr std::size_t piece_bytes = 64 * 1024;
constexpr auto accept_pause = 200ms;
constexpr auto stop_limit = 5s;
// Nothing tells when a port becomes free that another program has: it is tried again, soon at first.
constexpr auto first_retry = 1s;
constexpr auto longest_retry = 30s;

class SocketDuplex final : public Duplex {
  public:
    explicit SocketDuplex(tcp::socket socket) : socket_{std::move(socket)} {}

    Awaitable<Result<std::string>> read() override {
        std::string bytes(piece_bytes, '\0');
        const auto [error, size] = co_await socket_.async_read_some(asio::buffer(bytes), as_result);
        if (error && error != asio::error::eof)
            co_return fail(Error{Errc::unavailable, "the client's connection broke", error});
        bytes.resize(size);
        co_return bytes;
    }

    Awaitable<Result<void>> write(std::string_view bytes) override {
        const auto [error, size] = co_await asio::async_write(socket_, asio::buffer(bytes), as_result);
        if (error) co_return fail(Error{Errc::unavailable, "the client's connection broke", error});
        co_return Result<void>{};
    }

    void end_writing() override {
        error_code ignored;
        socket_.shutdown(tcp::socket::shutdown_send, ignored);
    }

    void abort() override {
        // With a reset: an end in order would pass for the end of the data.
        error_code ignored;
        socket_.set_option(tcp::socket::linger{true, 0}, ignored);
        socket_.close(ignored);
    }

    [[nodiscard]] asio::any_io_executor executor() { return socket_.get_executor(); }

  private:
    tcp::socket socket_;
};

// One bound port. On the strand of its owner.
struct Listener {
    explicit Listener(tcp::acceptor bound) : acceptor{std::move(bound)} {}

    tcp::acceptor acceptor;
    std::shared_ptr<vm::Vm> vm;  // nullptr while it is only reserved
    vm::PublishedPort port;
    int reservations = 0;
    bool accepting = false;
};

class Listeners final : public HostPorts, public std::enable_shared_from_this<Listeners> {
  public:
    Listeners(asio::io_context& loop, asio::ip::address address, config::ServerConfig::Ingress config,
              vm::PortRegistry& registry, Visits& visits)
        : loop_{loop},
          strand_{asio::make_strand(loop)},
          address_{std::move(address)},
          config_{std::move(config)},
          registry_{registry},
          visits_{visits},
          next_{config_.first_port},
          retry_{strand_},
          idle_{strand_, asio::steady_timer::time_point::max()} {}

    Awaitable<void> start() override;
    Awaitable<void> caught_up() override;
    Awaitable<void> stop() override;
    Awaitable<Result<std::unique_ptr<Reservation>>> reserve(std::optional<std::uint16_t> host) override;
    Awaitable<Result<vm::PublishedPort>> publish(std::shared_ptr<vm::Vm> vm, std::uint16_t guest,
                                                 std::optional<std::uint16_t> host,
                                                 bool public_access) override;
    Awaitable<Result<void>> withdraw(std::shared_ptr<vm::Vm> vm, std::uint16_t guest) override;
    [[nodiscard]] std::optional<std::string> obstacle(std::uint16_t host) const override {
        const std::lock_guard lock{obstacles_mutex_};
        const auto found = obstacles_.find(host);
        if (found == obstacles_.end()) return std::nullopt;
        return found->second;
    }

    void give_back(std::uint16_t host) {
        asio::post(strand_, [self = shared_from_this(), host] {
            const auto found = self->listeners_.find(host);
            if (found == self->listeners_.end()) return;
            --found->second->reservations;
            self->follow();
        });
    }

  private:
    class Held;

    [[nodiscard]] Result<tcp::acceptor> bind(std::uint16_t host);
    [[nodiscard]] Result<std::uint16_t> hold(std::optional<std::uint16_t> host);
    [[nodiscard]] Result<void> hold_one(std::uint16_t host);
    Awaitable<Result<vm::PublishedPort>> publish_now(vm::Vm& vm, std::uint16_t guest,
                                                     std::optional<std::uint16_t> host, bool public_access);
    Awaitable<Result<void>> withdraw_now(vm::Vm& vm, std::uint16_t guest);
    void follow();
    void note_obstacles(std::map<std::uint16_t, std::string> obstacles);
    void retry_later();
    void close(Listener& listener);
    void spawn(std::string_view name, asio::any_io_executor executor, Awaitable<void> task);
    static Awaitable<void> accept(std::shared_ptr<Listeners> self, std::shared_ptr<Listener> listener);
    static Awaitable<void> serve(std::shared_ptr<Listeners> self, std::shared_ptr<SocketDuplex> client,
                                 std::shared_ptr<vm::Vm> vm, std::uint16_t port);

    asio::io_context& loop_;
    asio::any_io_executor strand_;
    asio::ip::address address_;
    config::ServerConfig::Ingress config_;
    vm::PortRegistry& registry_;
    Visits& visits_;
    vm::OperationQueue changes_;  // publish and withdraw read the ports of a VM, then write them
    std::map<std::uint16_t, std::shared_ptr<Listener>> listeners_;  // by the host's port
    std::uint16_t next_;                                            // where the search for a free port begins
    asio::steady_timer retry_;                                      // while some port cannot be listened at
    std::chrono::seconds next_retry_ = first_retry;
    mutable std::mutex obstacles_mutex_;
    std::map<std::uint16_t, std::string> obstacles_;  // why nobody listens; guarded by obstacles_mutex_
    std::size_t running_ = 0;                         // accept loops and tunnels
    asio::steady_timer idle_;                         // cancelled when none is left
    bool stopping_ = false;
};

class Listeners::Held final : public HostPorts::Reservation {
  public:
    Held(std::shared_ptr<Listeners> owner, std::uint16_t host) : owner_{std::move(owner)}, host_{host} {}
    ~Held() override { owner_->give_back(host_); }
    [[nodiscard]] std::uint16_t host() const noexcept override { return host_; }

  private:
    std::shared_ptr<Listeners> owner_;
    std::uint16_t host_;
};

Result<tcp::acceptor> Listeners::bind(std::uint16_t host) {
    tcp::acceptor acceptor{strand_};
    const tcp::endpoint endpoint{address_, host};
    error_code error;
    acceptor.open(endpoint.protocol(), error);
    if (!error) ::fcntl(acceptor.native_handle(), F_SETFD, FD_CLOEXEC);
    if (!error) acceptor.set_option(tcp::acceptor::reuse_address{true}, error);
    if (!error) acceptor.bind(endpoint, error);
    if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
    if (!error) return acceptor;
    const std::string what = fmt::format("port {} of the host: {}", host, error.message());
    if (error == asio::error::address_in_use)
        return fail(Error{Errc::conflict, fmt::format("port {} of the host is in use", host), error});
    return fail(Error{Errc::unavailable, what, error});
}

Result<void> Listeners::hold_one(std::uint16_t host) {
    if (listeners_.contains(host))
        return fail(Errc::conflict, fmt::format("port {} of the host is in use", host));
    auto acceptor = bind(host);
    if (!acceptor) return fail(std::move(acceptor).error());
    auto listener = std::make_shared<Listener>(std::move(*acceptor));
    listener->reservations = 1;
    listeners_.emplace(host, std::move(listener));
    return {};
}

Result<std::uint16_t> Listeners::hold(std::optional<std::uint16_t> host) {
    if (host) {
        if (*host < config_.first_port || *host > config_.last_port)
            return fail(Errc::invalid, fmt::format("ports of the host are {} to {} here", config_.first_port,
                                                   config_.last_port));
        if (auto held = hold_one(*host); !held) return fail(std::move(held).error());
        return *host;
    }
    const std::uint32_t count = config_.last_port - config_.first_port + 1U;
    for (std::uint32_t tried = 0; tried < count; ++tried) {
        const std::uint16_t candidate = next_;
        next_ = next_ == config_.last_port ? config_.first_port : static_cast<std::uint16_t>(next_ + 1);
        auto held = hold_one(candidate);
        if (held) return candidate;
        if (held.error().code != Errc::conflict) return fail(std::move(held).error());
    }
    return fail(Errc::limit_exceeded, "all ports that this host publishes are in use");
}

Awaitable<Result<std::unique_ptr<HostPorts::Reservation>>> Listeners::reserve(
    std::optional<std::uint16_t> host) {
    auto work = [self = shared_from_this(), host]() -> Awaitable<Result<std::uint16_t>> {
        if (self->stopping_) co_return fail(Errc::unavailable, "the server stops");
        co_return self->hold(host);
    };
    const auto held = co_await on_strand(strand_, std::move(work));
    if (!held) co_return fail(held.error());
    co_return std::make_unique<Held>(shared_from_this(), *held);
}

Awaitable<Result<vm::PublishedPort>> Listeners::publish(std::shared_ptr<vm::Vm> vm, std::uint16_t guest,
                                                        std::optional<std::uint16_t> host,
                                                        bool public_access) {
    auto work = [self = shared_from_this(), vm, guest, host, public_access] {
        return self->publish_now(*vm, guest, host, public_access);
    };
    co_return co_await on_strand(strand_, std::move(work));
}

Awaitable<Result<vm::PublishedPort>> Listeners::publish_now(vm::Vm& vm, std::uint16_t guest,
                                                            std::optional<std::uint16_t> host,
                                                            bool public_access) {
    if (stopping_) co_return fail(Errc::unavailable, "the server stops");
    const auto turn = co_await changes_.turn();
    std::vector<vm::PublishedPort> ports = vm.published_ports();
    const auto known = std::find_if(ports.begin(), ports.end(),
                                    [&](const vm::PublishedPort& port) { return port.guest == guest; });
    if (known != ports.end() && host.value_or(known->host) != known->host)
        co_return fail(Errc::conflict, fmt::format("port {} is published already, as port {} of the host",
                                                   guest, known->host));
    std::optional<Held> held;
    vm::PublishedPort published{guest, 0, public_access};
    if (known != ports.end()) {
        known->public_access = public_access;
        published = *known;
    } else {
        const auto number = hold(host);
        if (!number) co_return fail(number.error());
        held.emplace(shared_from_this(), *number);
        published.host = *number;
        ports.push_back(published);
    }
    if (auto set = co_await vm.set_published_ports(std::move(ports)); !set)
        co_return fail(std::move(set).error());
    follow();
    co_return published;
}

Awaitable<Result<void>> Listeners::withdraw(std::shared_ptr<vm::Vm> vm, std::uint16_t guest) {
    auto work = [self = shared_from_this(), vm, guest] { return self->withdraw_now(*vm, guest); };
    co_return co_await on_strand(strand_, std::move(work));
}

Awaitable<Result<void>> Listeners::withdraw_now(vm::Vm& vm, std::uint16_t guest) {
    const auto turn = co_await changes_.turn();
    std::vector<vm::PublishedPort> ports = vm.published_ports();
    const auto gone =
        std::erase_if(ports, [&](const vm::PublishedPort& port) { return port.guest == guest; });
    if (gone == 0) co_return fail(Errc::not_found, fmt::format("port {} is not published", guest));
    if (auto set = co_await vm.set_published_ports(std::move(ports)); !set)
        co_return fail(std::move(set).error());
    visits_.end(&vm, guest);
    follow();
    co_return Result<void>{};
}

// Makes the listeners what the registry says.
void Listeners::follow() {
    if (stopping_) return;
    std::map<std::uint16_t, vm::PortRegistry::Publication> wanted;
    for (auto& publication : registry_.all()) wanted.emplace(publication.port.host, std::move(publication));
    std::erase_if(listeners_, [&](auto& entry) {
        Listener& listener = *entry.second;
        const auto found = wanted.find(entry.first);
        const bool same = found != wanted.end() && found->second.vm == listener.vm &&
                          found->second.port.guest == listener.port.guest;
        if (same || (listener.vm == nullptr && (found != wanted.end() || listener.reservations > 0)))
            return false;
        close(listener);
        return true;
    });
    std::map<std::uint16_t, std::string> obstacles;
    for (auto& [host, publication] : wanted) {
        auto found = listeners_.find(host);
        if (found == listeners_.end()) {
            auto acceptor = bind(host);
            if (!acceptor) {
                obstacles.emplace(host, acceptor.error().what);
                continue;
            }
            found = listeners_.emplace(host, std::make_shared<Listener>(std::move(*acceptor))).first;
        }
        Listener& listener = *found->second;
        listener.vm = publication.vm;
        listener.port = publication.port;
        if (!std::exchange(listener.accepting, true))
            spawn("accept on a published port", strand_, accept(shared_from_this(), found->second));
    }
    note_obstacles(std::move(obstacles));
}

// Says what is new, once, and sees to it that it is tried again.
void Listeners::note_obstacles(std::map<std::uint16_t, std::string> obstacles) {
    const bool any = !obstacles.empty();
    {
        const std::lock_guard lock{obstacles_mutex_};
        for (const auto& [host, reason] : obstacles)
            if (!obstacles_.contains(host))
                log::error("cannot publish a port; it is tried again", {{"reason", reason}});
        for (const auto& [host, reason] : obstacles_)
            if (!obstacles.contains(host) && listeners_.contains(host))
                log::info("port is published at last", {{"port", std::to_string(host)}});
        obstacles_ = std::move(obstacles);
    }
    if (any) {
        retry_later();
    } else {
        next_retry_ = first_retry;
        retry_.cancel();
    }
}

void Listeners::retry_later() {
    retry_.expires_after(next_retry_);
    next_retry_ = std::min<std::chrono::seconds>(next_retry_ * 2, longest_retry);
    retry_.async_wait([weak = weak_from_this()](const error_code& cancelled) {
        if (const auto self = weak.lock(); self && !cancelled) self->follow();
    });
}

void Listeners::close(Listener& listener) {
    error_code ignored;
    listener.acceptor.close(ignored);
    if (listener.vm) visits_.end(listener.vm.get(), listener.port.guest);
    listener.vm.reset();
}

void Listeners::spawn(std::string_view name, asio::any_io_executor executor, Awaitable<void> task) {
    ++running_;
    asio::co_spawn(executor, std::move(task),
                   [self = shared_from_this(), name](const std::exception_ptr& thrown) {
                       if (thrown) log::exception(name, thrown);
                       asio::post(self->strand_, [self] {
                           if (--self->running_ == 0) self->idle_.cancel();
                       });
                   });
}

Awaitable<void> Listeners::accept(std::shared_ptr<Listeners> self, std::shared_ptr<Listener> listener) {
    while (listener->acceptor.is_open()) {
        auto [error, socket] = co_await listener->acceptor.async_accept(
            asio::any_io_executor{asio::make_strand(self->loop_)}, as_result);
        if (error == asio::error::operation_aborted || error == asio::error::bad_descriptor) co_return;
        if (error == asio::error::no_descriptors || error == asio::error::no_memory ||
            error == asio::error::no_buffer_space) {
            log::error("cannot accept connections", {{"error", error.message()}});
            asio::steady_timer pause{self->strand_, accept_pause};
            co_await pause.async_wait(as_result);
        }
        if (error || !listener->vm) continue;
        error_code ignored;
        socket.set_option(tcp::no_delay{true}, ignored);
        socket.set_option(asio::socket_base::keep_alive{true}, ignored);
        auto client = std::make_shared<SocketDuplex>(std::move(socket));
        auto executor = client->executor();
        self->spawn("published port", executor,
                    serve(self, std::move(client), listener->vm, listener->port.guest));
    }
}

Awaitable<void> Listeners::serve(std::shared_ptr<Listeners> self, std::shared_ptr<SocketDuplex> client,
                                 std::shared_ptr<vm::Vm> vm, std::uint16_t port) {
    auto end = [weak = std::weak_ptr{client}, executor = client->executor()] {
        asio::post(executor, [weak] {
            if (const auto alive = weak.lock()) alive->abort();
        });
    };
    const auto visit = self->visits_.enter(*vm, port, std::move(end));
    if (!visit) {
        client->abort();
        co_return;
    }
    auto guest = co_await GuestStream::connect(vm, port);
    if (!guest) {
        log::info("published port without an answer",
                  {{"vm", vm->view().name}, {"port", std::to_string(port)}, {"error", guest.error().what}});
        client->abort();
        co_return;
    }
    co_await tunnel(*client, **guest);
}

Awaitable<void> Listeners::start() {
    registry_.watch([weak = weak_from_this(), strand = strand_] {
        asio::post(strand, [weak] {
            if (const auto self = weak.lock()) self->follow();
        });
    });
    co_await caught_up();
}

Awaitable<void> Listeners::caught_up() {
    auto work = [self = shared_from_this()]() -> Awaitable<void> {
        self->follow();
        co_return;
    };
    co_await on_strand(strand_, std::move(work));
}

Awaitable<void> Listeners::stop() {
    registry_.watch({});
    auto work = [self = shared_from_this()]() -> Awaitable<Result<void>> {
        self->stopping_ = true;
        self->retry_.cancel();
        for (auto& [host, listener] : self->listeners_) self->close(*listener);
        self->listeners_.clear();
        self->visits_.end_all();
        self->idle_.expires_after(stop_limit);
        while (self->running_ > 0 && self->idle_.expiry() > std::chrono::steady_clock::now())
            co_await self->idle_.async_wait(as_result);
        co_return Result<void>{};
    };
    (void)co_await on_strand(strand_, std::move(work));
}

}  // namespace

Result<std::shared_ptr<HostPorts>> HostPorts::create(asio::io_context& loop,
                                                     const config::ServerConfig::Ingress& config,
                                                     vm::PortRegistry& registry, Visits& visits) {
    error_code error;
    const auto address = asio::ip::make_address(config.address, error);
    if (error) return fail(Errc::invalid, "ingress.address '" + config.address + "' is no IP address");
    return std::make_shared<Listeners>(loop, address, config, registry, visits);
}

}  // namespace noid::ingress
