#include "net/dns_forwarder.hpp"

#include <sys/socket.h>

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/udp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <list>

#include "base/log.hpp"
#include "base/random.hpp"
#include "net/dns_message.hpp"

namespace noid::net {

using asio::ip::tcp;
using asio::ip::udp;
using namespace std::chrono_literals;

namespace {

constexpr std::uint16_t domain_port = 53;
constexpr std::size_t max_queries = 64;     // of one guest at a time, over UDP
constexpr std::size_t max_connections = 8;  // of one guest
constexpr auto try_one_server = 1500ms;
constexpr int rounds = 2;  // over all servers
constexpr auto connection_idle = 10s;
constexpr auto exchange_over_tcp = 5s;

// A spawned coroutine's end. Ending by an exception is a bug, not a failure of the network.
auto report_bug(const char* where) {
    return [where](const std::exception_ptr& thrown) {
        if (thrown) log::exception(where, thrown);
    };
}

std::uint16_t random_id() {
    std::uint16_t id = 0;
    fill_random(&id, sizeof id);
    return id;
}

// The query as sent upstream: with an id that nobody off the path can guess.
struct Outgoing {
    Bytes message;
    DnsQuery query;
};
Outgoing disguise(BytesView message, const DnsQuery& query) {
    Outgoing outgoing{Bytes(message.begin(), message.end()), query};
    outgoing.query.id = random_id();
    set_dns_id(outgoing.message, outgoing.query.id);
    return outgoing;
}

struct Answer {
    Bytes message;
    std::vector<ResolvedAddress> addresses;
};

std::unexpected<Error> unreachable(const boost::system::error_code& error) {
    return fail(Errc::unavailable, "resolver: " + error.message());
}

Awaitable<Result<Answer>> exchange_datagram(asio::ip::address server, const Outgoing& outgoing) {
    udp::socket socket{co_await asio::this_coro::executor};
    boost::system::error_code error;
    const udp::endpoint endpoint{server, domain_port};
    socket.connect(endpoint, error);  // of a datagram socket: never waits
    if (error) co_return unreachable(error);
    co_await socket.async_send(asio::buffer(outgoing.message),
                               asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return unreachable(error);
    Bytes buffer(max_dns_datagram + 1);
    while (true) {
        const std::size_t got = co_await socket.async_receive(
            asio::buffer(buffer), asio::redirect_error(asio::use_awaitable, error));
        if (error) co_return unreachable(error);
        if (got > max_dns_datagram) co_return fail(Errc::too_large, "the answer needs TCP");
        auto addresses = parse_dns_answer(BytesView{buffer.data(), got}, outgoing.query);
        if (!addresses) continue;  // late or forged
        buffer.resize(got);
        co_return Answer{std::move(buffer), std::move(*addresses)};
    }
}

// A message with its length in front, as TCP carries it. An empty one: the peer has closed.
template <class Socket>
Awaitable<Result<Bytes>> read_framed(Socket& socket, std::size_t longest) {
    std::array<std::uint8_t, 2> length{};
    boost::system::error_code error;
    co_await asio::async_read(socket, asio::buffer(length), asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return Bytes{};
    const std::size_t size = std::size_t{length[0]} * 256 + length[1];
    if (size == 0 || size > longest) co_return fail(Errc::too_large, "DNS message of an unlikely size");
    Bytes message(size);
    co_await asio::async_read(socket, asio::buffer(message),
                              asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return Bytes{};
    co_return message;
}

template <class Socket>
Awaitable<Result<std::monostate>> write_framed(Socket& socket, BytesView message) {
    const std::array<std::uint8_t, 2> length{static_cast<std::uint8_t>(message.size() >> 8),
                                             static_cast<std::uint8_t>(message.size() & 255)};
    const std::array<asio::const_buffer, 2> parts{asio::buffer(length),
                                                  asio::buffer(message.data(), message.size())};
    boost::system::error_code error;
    co_await asio::async_write(socket, parts, asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return unreachable(error);
    co_return std::monostate{};
}

Awaitable<Result<Answer>> exchange_stream(asio::ip::address server, const Outgoing& outgoing) {
    constexpr std::size_t longest = 65535;
    tcp::socket socket{co_await asio::this_coro::executor};
    boost::system::error_code error;
    co_await socket.async_connect({server, domain_port}, asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return unreachable(error);
    auto sent = co_await write_framed(socket, outgoing.message);
    if (!sent) co_return fail(sent.error());
    auto message = co_await read_framed(socket, longest);
    if (!message) co_return fail(message.error());
    auto addresses = parse_dns_answer(*message, outgoing.query);
    if (!addresses) co_return fail(Errc::corrupt, "the resolver's answer does not fit the question");
    co_return Answer{std::move(*message), std::move(*addresses)};
}

}  // namespace

struct DnsForwarder::Shared {
    DnsServers servers;
    Learn learn;
};

// One slot's sockets, and the guest that is in it now.
struct DnsForwarder::Listener {
    struct Guest {
        std::uint64_t lease;
        Policy policy;
    };

    std::uint32_t index;
    udp::socket datagrams;
    tcp::acceptor acceptor;
    std::optional<Guest> guest;
    std::size_t queries = 0;
    std::list<tcp::socket> connections;

    [[nodiscard]] bool has_guest(std::uint64_t lease) const { return guest && guest->lease == lease; }

    void close() {
        boost::system::error_code ignored;
        datagrams.close(ignored);
        acceptor.close(ignored);
        close_connections();
    }
    void close_connections() {
        boost::system::error_code ignored;
        for (auto& each : connections) each.close(ignored);
    }
    // Not sent when the socket is full: the guest does not read, or asks again.
    void send(BytesView message, const udp::endpoint& to) {
        boost::system::error_code ignored;
        if (datagrams.is_open())
            datagrams.send_to(asio::buffer(message.data(), message.size()), to, 0, ignored);
    }

    // The answer of the first server that gives one, for the guest of `lease`, who may have it at once.
    template <class Exchange>
    static Awaitable<Result<Bytes>> resolve(std::shared_ptr<Shared> shared, std::shared_ptr<Listener> self,
                                            std::uint64_t lease, const Bytes& message, const DnsQuery& query,
                                            std::chrono::milliseconds limit, Exchange exchange) {
        const auto servers = shared->servers.get();
        for (int round = 0; round < rounds; ++round) {
            for (const auto& server : servers) {
                const auto outgoing = disguise(message, query);
                auto answer = co_await within(limit, exchange(server, outgoing));
                if (!answer && answer.error().code == Errc::too_large)
                    co_return dns_truncated_answer(message, query);
                if (!answer) continue;
                auto learned =
                    co_await shared->learn(self->index, lease, query.name, std::move(answer->addresses));
                if (!learned) {
                    log::warn("cannot let addresses through",
                              {{"slot", std::to_string(self->index)}, {"error", learned.error().full()}});
                    co_return dns_error_answer(message, query, DnsError::server_failure);
                }
                set_dns_id(answer->message, query.id);
                co_return std::move(answer->message);
            }
        }
        co_return dns_error_answer(message, query, DnsError::server_failure);
    }

    static Awaitable<void> answer_datagram(std::shared_ptr<Shared> shared, std::shared_ptr<Listener> self,
                                           std::uint64_t lease, Bytes message, DnsQuery query,
                                           udp::endpoint from) {
        ++self->queries;
        const auto answer = co_await resolve(
            shared, self, lease, message, query, try_one_server,
            [](const auto& server, const auto& outgoing) { return exchange_datagram(server, outgoing); });
        --self->queries;
        if (answer && self->has_guest(lease)) self->send(*answer, from);
    }

    static Awaitable<void> answer_connection(std::shared_ptr<Shared> shared, std::shared_ptr<Listener> self,
                                             std::list<tcp::socket>::iterator socket, std::uint64_t lease) {
        while (self->has_guest(lease)) {
            auto message = co_await within(connection_idle, read_framed(*socket, max_dns_datagram));
            const auto query = message ? parse_dns_query(*message) : std::nullopt;
            if (!query || !self->has_guest(lease)) break;
            Result<Bytes> answer;
            if (self->guest->policy.decide_name(query->name) == Action::deny) {
                answer = dns_error_answer(*message, *query, DnsError::refused);
            } else {
                answer = co_await resolve(shared, self, lease, *message, *query, exchange_over_tcp,
                                          [](const auto& server, const auto& outgoing) {
                                              return exchange_stream(server, outgoing);
                                          });
            }
            if (!answer || !self->has_guest(lease)) break;
            if (!co_await within(connection_idle, write_framed(*socket, *answer))) break;
        }
        self->connections.erase(socket);
    }

    // Takes in what has arrived; whatever is not a query is dropped.
    static void take_datagrams(const std::shared_ptr<Shared>& shared, const std::shared_ptr<Listener>& self,
                               const asio::any_io_executor& executor) {
        constexpr int at_once = 64;  // then other guests have their turn
        std::array<std::uint8_t, max_dns_datagram> buffer{};
        for (int i = 0; i < at_once; ++i) {
            udp::endpoint from;
            boost::system::error_code error;
            const std::size_t got = self->datagrams.receive_from(asio::buffer(buffer), from, 0, error);
            if (error) return;
            const BytesView message{buffer.data(), got};
            const auto query = parse_dns_query(message);
            if (!query || !self->guest) continue;
            if (self->guest->policy.decide_name(query->name) == Action::deny) {
                self->send(dns_error_answer(message, *query, DnsError::refused), from);
            } else if (self->queries < max_queries) {
                asio::co_spawn(executor,
                               answer_datagram(shared, self, self->guest->lease,
                                               Bytes(message.begin(), message.end()), *query, from),
                               report_bug("DNS query"));
            }
        }
    }
};

DnsForwarder::DnsForwarder(asio::any_io_executor executor, DnsServers servers, Learn learn)
    : executor_{std::move(executor)},
      shared_{std::make_shared<Shared>(Shared{std::move(servers), std::move(learn)})} {}

DnsForwarder::~DnsForwarder() {
    for (auto& [index, listener] : listeners_) listener->close();
}

void DnsForwarder::handle(SlotEvent event) {
    if (auto* appeared = std::get_if<SlotAppeared>(&event)) {
        auto listener = std::make_shared<Listener>(
            Listener{.index = appeared->index,
                     .datagrams = udp::socket{executor_, udp::v4(), appeared->sockets.udp.release()},
                     .acceptor = tcp::acceptor{executor_, tcp::v4(), appeared->sockets.tcp.release()}});
        listener->datagrams.non_blocking(true);
        asio::co_spawn(executor_, serve_datagrams(shared_, listener), report_bug("DNS listener"));
        asio::co_spawn(executor_, serve_connections(shared_, listener), report_bug("DNS listener"));
        listeners_[appeared->index] = std::move(listener);
    } else if (auto* arrived = std::get_if<GuestArrived>(&event)) {
        listeners_.at(arrived->index)->guest = Listener::Guest{arrived->lease, std::move(arrived->policy)};
    } else if (const auto* left = std::get_if<GuestLeft>(&event)) {
        listeners_.at(left->index)->guest.reset();
        listeners_.at(left->index)->close_connections();
    } else if (const auto* gone = std::get_if<SlotGone>(&event)) {
        if (const auto known = listeners_.extract(gone->index)) known.mapped()->close();
    }
}

Awaitable<void> DnsForwarder::serve_datagrams(std::shared_ptr<Shared> shared,
                                              std::shared_ptr<Listener> listener) {
    const auto executor = co_await asio::this_coro::executor;
    while (listener->datagrams.is_open()) {
        boost::system::error_code error;
        co_await listener->datagrams.async_wait(udp::socket::wait_read,
                                                asio::redirect_error(asio::use_awaitable, error));
        if (error) co_return;
        Listener::take_datagrams(shared, listener, executor);
    }
}

Awaitable<void> DnsForwarder::serve_connections(std::shared_ptr<Shared> shared,
                                                std::shared_ptr<Listener> listener) {
    const auto executor = co_await asio::this_coro::executor;
    while (listener->acceptor.is_open()) {
        boost::system::error_code error;
        tcp::socket socket{executor};
        co_await listener->acceptor.async_accept(socket, asio::redirect_error(asio::use_awaitable, error));
        if (error == asio::error::operation_aborted || error == asio::error::bad_descriptor) co_return;
        if (error) {
            // Out of descriptors, say: the connection waits in the queue, and so does this loop.
            asio::steady_timer pause{executor, 100ms};
            co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, error));
            continue;
        }
        if (!listener->guest || listener->connections.size() >= max_connections) continue;
        listener->connections.push_back(std::move(socket));
        asio::co_spawn(executor,
                       Listener::answer_connection(shared, listener, std::prev(listener->connections.end()),
                                                   listener->guest->lease),
                       report_bug("DNS connection"));
    }
}

}  // namespace noid::net
