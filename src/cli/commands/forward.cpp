#include <fmt/format.h>

#include <boost/asio/ip/tcp.hpp>
#include <boost/json.hpp>
#include <cstdio>
#include <list>

#include "cli/commands/execute.hpp"
#include "cli/quantities.hpp"
#include "cli/task_group.hpp"
#include "cli/tcp_tunnel.hpp"
#include "cli/vm_request.hpp"

namespace noid::cli {
namespace {

using asio::ip::tcp;
using boost::system::error_code;

constexpr std::size_t max_connections = 256;

struct PortPair {
    std::uint16_t local = 0;  // 0: any free one
    std::uint16_t guest = 0;
};

// "[LOCAL:]PORT"
Result<PortPair> parse_ports(const std::string& text) {
    const auto colon = text.find(':');
    auto guest = parse_port(colon == std::string::npos ? text : text.substr(colon + 1));
    if (!guest) return fail(guest.error());
    if (colon == std::string::npos) return PortPair{*guest, *guest};
    if (text.substr(0, colon) == "0") return PortPair{0, *guest};
    auto local = parse_port(text.substr(0, colon));
    if (!local) return fail(local.error());
    return PortPair{*local, *guest};
}

Result<tcp::acceptor> listen(const asio::any_io_executor& executor, const std::string& address,
                             std::uint16_t port) {
    error_code failure;
    const auto host = asio::ip::make_address(address, failure);
    if (failure) return fail(Errc::invalid, fmt::format("'{}' is no address to listen on", address));
    const tcp::endpoint endpoint{host, port};
    tcp::acceptor acceptor{executor};
    acceptor.open(endpoint.protocol(), failure);
    if (!failure) acceptor.set_option(asio::socket_base::reuse_address{true}, failure);
    if (!failure) acceptor.bind(endpoint, failure);
    if (!failure) acceptor.listen(asio::socket_base::max_listen_connections, failure);
    if (failure) {
        return fail(
            Errc::unavailable,
            fmt::format("cannot listen on {} port {}: {}. Choose another local port: noid forward LOCAL:PORT",
                        address, port, failure.message()));
    }
    return acceptor;
}

using Tunnels = std::list<TcpTunnel>;

// Runs one tunnel of the list and takes it off.
Awaitable<void> serve(Tunnels& tunnels, Tunnels::iterator tunnel, std::uint16_t port) {
    auto served = co_await tunnel->run();
    tunnels.erase(tunnel);
    if (!served) print_notice(fmt::format("port {}: {}", port, served.error().what));
}

}  // namespace

Awaitable<Result<int>> execute(const Context& context, Forward command) {
    auto ports = parse_ports(command.words.back());
    if (!ports) co_return fail(ports.error());
    VmArgument name;
    if (command.words.size() == 2) name = command.words.front();
    auto vm = find_vm(context, name);
    if (!vm) co_return fail(vm.error());
    // Nobody should find out at the first connection that the VM does not exist.
    if (auto there = co_await vm->client.call(HttpRequest{HttpMethod::get, vm->target}); !there)
        co_return fail(there.error());
    auto acceptor = listen(context.executor, command.address, ports->local);
    if (!acceptor) co_return fail(acceptor.error());

    const auto local_port = acceptor->local_endpoint().port();
    if (context.json) {
        print_line(boost::json::serialize(boost::json::object{{"address", command.address},
                                                              {"port", local_port},
                                                              {"vm", vm->name},
                                                              {"guest_port", ports->guest}}));
    } else {
        print_line(fmt::format("Forwarding {}:{} to port {} of VM '{}'. Ctrl-C ends it.", command.address,
                               local_port, ports->guest, vm->name));
    }
    std::fflush(stdout);

    int ended_by = 0;
    Tunnels tunnels;
    TaskGroup serving{context.executor};
    const Signals::TakeOver take_over{context.signals, [&](int signal) {
                                          ended_by = signal;
                                          acceptor->close();
                                          for (auto& tunnel : tunnels) tunnel.stop();
                                      }};
    const RemoteSession::Options options{
        .account = vm->client.account(), .vm = vm->name, .trace = context.trace()};
    error_code failure;
    for (;;) {
        auto local = co_await acceptor->async_accept(asio::redirect_error(asio::use_awaitable, failure));
        if (failure || ended_by != 0) break;
        const auto tunnel = tunnels.emplace(tunnels.end(), std::move(local), options, ports->guest);
        serving.spawn(serve(tunnels, tunnel, ports->guest));
        co_await serving.join(max_connections - 1);
    }
    for (auto& tunnel : tunnels) tunnel.stop();
    co_await serving.join();
    if (ended_by == 0) co_return fail(Errc::unavailable, "cannot accept connections: " + failure.message());
    co_return 128 + ended_by;
}

}  // namespace noid::cli
