#include "api/server.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <fcntl.h>
#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/strand.hpp>
#include <list>
#include <mutex>
#include <vector>

#include "api/connection.hpp"
#include "api/endpoints.hpp"
#include "base/log.hpp"
#include "base/unix_socket.hpp"

namespace noid::api {

namespace {

using namespace std::chrono_literals;
using asio::ip::tcp;
using Local = asio::local::stream_protocol;

constexpr auto as_result = asio::as_tuple(asio::use_awaitable);
constexpr auto accept_pause = 200ms;
constexpr auto abort_limit = 5s;

// What still runs for a server: its accept loops, and the connections that are open. Thread-safe. Shared
// with those, so that the last of them may tell that it ends while the server is taken down.
class ConnectionSet {
  public:
    void loop_began() {
        const std::lock_guard lock{mutex_};
        ++loops_;
    }
    void loop_ended() {
        const std::lock_guard lock{mutex_};
        --loops_;
        tell_if_empty();
    }
    void add(const std::shared_ptr<Connection>& connection) {
        const std::lock_guard lock{mutex_};
        connections_.push_back(connection);
    }
    void remove(const std::shared_ptr<Connection>& connection) {
        const std::lock_guard lock{mutex_};
        connections_.remove(connection);
        tell_if_empty();
    }
    [[nodiscard]] std::vector<std::shared_ptr<Connection>> all() const {
        const std::lock_guard lock{mutex_};
        return {connections_.begin(), connections_.end()};
    }
    // Calls `tell` when the last one goes, at once when there is none.
    void when_empty(std::function<void()> tell) {
        const std::lock_guard lock{mutex_};
        on_empty_ = std::move(tell);
        tell_if_empty();
    }

  private:
    void tell_if_empty() {
        if (connections_.empty() && loops_ == 0 && on_empty_) on_empty_();
    }

    std::size_t loops_ = 0;
    mutable std::mutex mutex_;
    std::list<std::shared_ptr<Connection>> connections_;
    std::function<void()> on_empty_;
};

Result<tcp::endpoint> parse_listen(asio::io_context& loop, const std::string& listen) {
    const std::size_t colon = listen.rfind(':');
    if (colon == std::string::npos)
        return fail(Errc::invalid, "failed to bind " + listen + ": expected HOST:PORT");
    std::string host = listen.substr(0, colon);
    if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
    boost::system::error_code error;
    tcp::resolver resolver{loop};
    const auto found = resolver.resolve(host, listen.substr(colon + 1), tcp::resolver::passive, error);
    if (error || found.empty())
        return fail(Errc::invalid, "failed to bind " + listen + ": " + error.message());
    return found.begin()->endpoint();
}

void bind(tcp::acceptor& acceptor, const tcp::endpoint& endpoint, boost::system::error_code& error) {
    acceptor.open(endpoint.protocol(), error);
    if (!error) ::fcntl(acceptor.native_handle(), F_SETFD, FD_CLOEXEC);
    if (!error) acceptor.set_option(tcp::acceptor::reuse_address{true}, error);
    if (!error) acceptor.bind(endpoint, error);
}

std::unexpected<Error> not_bound(const std::string& listen, const boost::system::error_code& error) {
    return fail(Error{Errc::unavailable, "failed to bind " + listen + ": " + error.message(), error});
}

Result<tcp::acceptor> listen_tcp(asio::io_context& loop, const std::string& listen, Fd bound) {
    const auto endpoint = parse_listen(loop, listen);
    if (!endpoint) return fail(endpoint.error());
    // A strand: the acceptor is used by its loop and closed by stop().
    tcp::acceptor acceptor{asio::make_strand(loop)};
    boost::system::error_code error;
    if (bound) {
        acceptor.assign(endpoint->protocol(), bound.release(), error);
    } else {
        bind(acceptor, *endpoint, error);
    }
    if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
    if (error) return not_bound(listen, error);
    return acceptor;
}

// Nothing, if the port is one that everybody may bind.
Result<Fd> bind_if_privileged(const std::string& listen) {
    constexpr std::uint16_t first_for_everybody = 1024;
    asio::io_context loop;
    const auto endpoint = parse_listen(loop, listen);
    if (!endpoint) return fail(endpoint.error());
    if (endpoint->port() == 0 || endpoint->port() >= first_for_everybody) return Fd{};
    tcp::acceptor acceptor{loop};
    boost::system::error_code error;
    bind(acceptor, *endpoint, error);
    if (error) return not_bound(listen, error);
    return Fd{acceptor.release()};
}

std::string text_of(const tcp::endpoint& endpoint) {
    const std::string address = endpoint.address().to_string();
    const std::string port = std::to_string(endpoint.port());
    return endpoint.address().is_v6() ? "[" + address + "]:" + port : address + ":" + port;
}

bool is_exhaustion(const boost::system::error_code& error) {
    return error == asio::error::no_descriptors || error == asio::error::no_memory ||
           error == asio::error::no_buffer_space ||
           error == boost::system::errc::too_many_files_open_in_system;
}

class Server final : public ApiServer {
  public:
    Server(asio::io_context& loop, vm::Engine& engine, const config::ServerConfig& config,
           std::unique_ptr<ingress::Visits> visits, std::shared_ptr<ingress::HostPorts> host_ports,
           tcp::acceptor main, std::optional<tcp::acceptor> metrics, Local::acceptor admin)
        : loop_{loop},
          visits_{std::move(visits)},
          services_{engine,
                    config,
                    Authenticator{[&engine](std::string_view token) { return engine.authenticate(token); }},
                    {},
                    {},
                    {},
                    {},
                    std::move(host_ports),
                    *visits_,
                    {}},
          main_{std::move(main)},
          metrics_{std::move(metrics)},
          admin_{std::move(admin)} {}

    Awaitable<void> start() override {
        co_await services_.host_ports->start();
        spawn("accept", accept_tcp(main_, Listening::main, main_router_), main_.get_executor());
        if (metrics_)
            spawn("accept metrics", accept_tcp(*metrics_, Listening::metrics, metrics_router_),
                  metrics_->get_executor());
        spawn("accept admin", accept_local(), admin_.get_executor());
    }

    Awaitable<void> stop(std::chrono::milliseconds deadline) override {
        stopping_ = true;
        co_await close(main_);
        if (metrics_) co_await close(*metrics_);
        co_await close(admin_);
        co_await services_.host_ports->stop();
        for (const auto& connection : connections_->all()) connection->stop();
        if (co_await wait_until_empty(deadline)) co_return;
        log::warn("requests cut off at the end of the server",
                  {{"connections", std::to_string(connections_->all().size())}});
        for (const auto& connection : connections_->all()) connection->abort();
        if (!co_await wait_until_empty(abort_limit))
            log::error("connections do not end",
                       {{"connections", std::to_string(connections_->all().size())}});
    }

    std::string address() const override { return text_of(main_.local_endpoint()); }
    std::uint16_t port() const override { return main_.local_endpoint().port(); }

  private:
    void spawn(std::string_view name, Awaitable<void> task, const asio::any_io_executor& executor) {
        connections_->loop_began();
        asio::co_spawn(executor, std::move(task),
                       [name, set = connections_](const std::exception_ptr& thrown) {
                           if (thrown) log::exception(name, thrown);
                           set->loop_ended();
                       });
    }

    template <class Acceptor>
    Awaitable<void> close(Acceptor& acceptor) {
        auto shut = [&acceptor]() -> Awaitable<Result<void>> {
            boost::system::error_code ignored;
            acceptor.close(ignored);
            co_return Result<void>{};
        };
        (void)co_await on_strand(acceptor.get_executor(), std::move(shut));
    }

    // True when there is no connection left by then.
    Awaitable<bool> wait_until_empty(std::chrono::milliseconds limit) {
        auto strand = asio::make_strand(loop_);
        auto timer = std::make_shared<asio::steady_timer>(strand, limit);
        auto wait = [this, timer]() -> Awaitable<Result<bool>> {
            auto empty = std::make_shared<bool>(false);
            connections_->when_empty([timer, empty] {
                asio::post(timer->get_executor(), [timer, empty] {
                    *empty = true;
                    timer->cancel();
                });
            });
            if (!*empty) co_await timer->async_wait(as_result);
            connections_->when_empty({});
            co_return *empty;
        };
        const auto empty = co_await on_strand(strand, std::move(wait));
        co_return *empty;
    }

    void serve(asio::generic::stream_protocol::socket socket, Peer peer, Listening listening,
               const Router& router) {
        const auto executor = socket.get_executor();
        auto connection =
            Connection::create(std::move(socket), std::move(peer), listening, services_, router);
        connections_->add(connection);
        if (stopping_) connection->stop();
        auto run = [connection]() -> Awaitable<void> { co_await connection->run(); };
        asio::co_spawn(executor, std::move(run),
                       [set = connections_, connection](const std::exception_ptr& thrown) {
                           if (thrown) log::exception("connection", thrown);
                           set->remove(connection);
                       });
    }

    // What to do about a failed accept: false ends the loop. Descriptors or memory may come back, so the
    // loop waits a moment; a client that is gone already costs nothing.
    Awaitable<bool> survive(const boost::system::error_code& error) {
        if (stopping_ || error == asio::error::operation_aborted || error == asio::error::bad_descriptor)
            co_return false;
        if (!is_exhaustion(error)) co_return true;
        log::error("cannot accept connections", {{"error", error.message()}});
        asio::steady_timer pause{co_await asio::this_coro::executor, accept_pause};
        co_await pause.async_wait(asio::use_awaitable);
        co_return true;
    }

    Awaitable<void> accept_tcp(tcp::acceptor& acceptor, Listening listening, const Router& router) {
        while (true) {
            auto [error, socket] =
                co_await acceptor.async_accept(asio::any_io_executor{asio::make_strand(loop_)}, as_result);
            if (error) {
                if (!co_await survive(error)) co_return;
                continue;
            }
            boost::system::error_code failed;
            const auto remote = socket.remote_endpoint(failed);
            if (failed) continue;
            socket.set_option(tcp::no_delay{true}, failed);
            socket.set_option(asio::socket_base::keep_alive{true}, failed);
            serve(asio::generic::stream_protocol::socket{std::move(socket)},
                  Peer{remote.address().to_string(), text_of(remote)}, listening, router);
        }
    }

    // Only root and the server's own user administrate. The socket's mode says so too; this holds
    // even where somebody opened the directory.
    Awaitable<void> accept_local() {
        while (true) {
            auto [error, socket] =
                co_await admin_.async_accept(asio::any_io_executor{asio::make_strand(loop_)}, as_result);
            if (error) {
                if (!co_await survive(error)) co_return;
                continue;
            }
            ::ucred peer{};
            ::socklen_t size = sizeof peer;
            const bool known =
                ::getsockopt(socket.native_handle(), SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0;
            if (!known || (peer.uid != 0 && peer.uid != ::geteuid())) {
                log::warn("administration refused", {{"uid", known ? std::to_string(peer.uid) : "unknown"}});
                continue;
            }
            const std::string name = "unix:" + std::to_string(peer.uid);
            serve(asio::generic::stream_protocol::socket{std::move(socket)}, Peer{"unix", name},
                  Listening::admin, admin_router_);
        }
    }

    asio::io_context& loop_;
    std::unique_ptr<ingress::Visits> visits_;
    Services services_;
    Router main_router_{main_routes()};
    Router metrics_router_{metrics_routes()};
    Router admin_router_{admin_routes()};
    tcp::acceptor main_;
    std::optional<tcp::acceptor> metrics_;
    Local::acceptor admin_;
    std::shared_ptr<ConnectionSet> connections_ = std::make_shared<ConnectionSet>();
    std::atomic<bool> stopping_{false};
};

Result<Local::acceptor> listen_admin(asio::io_context& loop, const std::filesystem::path& data_dir) {
    const Fd directory{::open(data_dir.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)};
    if (!directory) return fail_errno(errno, "cannot open " + data_dir.string());
    auto socket = listen_unix_at(directory, "admin.sock", 16);
    if (!socket) return fail(std::move(socket).error().at("administration socket"));
    return Local::acceptor{asio::make_strand(loop), Local{}, socket->release()};
}

}  // namespace

Result<BoundPorts> bind_privileged_ports(const config::ServerConfig& config) {
    auto main = bind_if_privileged(config.server.listen);
    if (!main) return fail(std::move(main.error()));
    BoundPorts ports{std::move(*main), Fd{}};
    if (config.server.metrics_listen) {
        auto metrics = bind_if_privileged(*config.server.metrics_listen);
        if (!metrics) return fail(std::move(metrics.error()));
        ports.metrics = std::move(*metrics);
    }
    return ports;
}

Result<std::unique_ptr<ApiServer>> ApiServer::create(asio::io_context& loop, vm::Engine& engine,
                                                     const config::ServerConfig& config, BoundPorts ports) {
    auto main = listen_tcp(loop, config.server.listen, std::move(ports.main));
    if (!main) return fail(std::move(main).error());
    std::optional<tcp::acceptor> metrics;
    if (config.server.metrics_listen) {
        auto listening = listen_tcp(loop, *config.server.metrics_listen, std::move(ports.metrics));
        if (!listening) return fail(std::move(listening).error());
        metrics = std::move(*listening);
    }
    auto admin = listen_admin(loop, config.paths.data_dir);
    if (!admin) return fail(std::move(admin).error());
    auto visits = std::make_unique<ingress::Visits>(config.ingress.max_connections_per_vm);
    auto host_ports = ingress::HostPorts::create(loop, config.ingress, engine.ports(), *visits);
    if (!host_ports) return fail(std::move(host_ports).error());
    return std::make_unique<Server>(loop, engine, config, std::move(visits), std::move(*host_ports),
                                    std::move(*main), std::move(metrics), std::move(*admin));
}

}  // namespace noid::api
