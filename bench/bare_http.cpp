// The floor for requests: a Beast server that gives every request the same body, and the load that is
// put on it and on noid-server alike. One thread each.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>

namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::ip::tcp;
using Clock = std::chrono::steady_clock;

asio::awaitable<void> answer_all(tcp::socket socket, const std::string& body) {
    boost::beast::flat_buffer buffer;
    boost::system::error_code error;
    while (!error) {
        http::request<http::empty_body> request;
        co_await http::async_read(socket, buffer, request, asio::redirect_error(asio::use_awaitable, error));
        if (error) break;
        http::response<http::string_body> response{http::status::ok, 11, body};
        response.set(http::field::content_type, "application/json");
        response.prepare_payload();
        co_await http::async_write(socket, response, asio::redirect_error(asio::use_awaitable, error));
    }
}

asio::awaitable<void> serve(tcp::acceptor& acceptor, const std::string& body) {
    while (true) {
        tcp::socket socket = co_await acceptor.async_accept(asio::use_awaitable);
        socket.set_option(tcp::no_delay{true});
        asio::co_spawn(acceptor.get_executor(), answer_all(std::move(socket), body),
                       [](std::exception_ptr bug) {
                           if (bug) std::rethrow_exception(bug);
                       });
    }
}

struct Load {
    std::uint16_t port = 0;
    std::string path = "/";
    std::string token;
    int connections = 8;
    double seconds = 2;
};

asio::awaitable<void> ask(const Load& load, Clock::time_point until, std::uint64_t& answered) {
    tcp::socket socket{co_await asio::this_coro::executor};
    co_await socket.async_connect({asio::ip::address_v4::loopback(), load.port}, asio::use_awaitable);
    socket.set_option(tcp::no_delay{true});
    http::request<http::empty_body> request{http::verb::get, load.path, 11};
    request.set(http::field::host, "localhost");
    if (!load.token.empty()) request.set(http::field::authorization, "Bearer " + load.token);
    boost::beast::flat_buffer buffer;
    while (Clock::now() < until) {
        co_await http::async_write(socket, request, asio::use_awaitable);
        http::response<http::string_body> response;
        co_await http::async_read(socket, buffer, response, asio::use_awaitable);
        if (response.result() != http::status::ok) throw std::runtime_error{response.body()};
        ++answered;
    }
}

int run_load(const Load& load) {
    asio::io_context loop{1};
    std::uint64_t answered = 0;
    const auto start = Clock::now();
    const auto until =
        start + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>{load.seconds});
    for (int i = 0; i < load.connections; ++i) {
        asio::co_spawn(loop, ask(load, until, answered), [](std::exception_ptr bug) {
            if (bug) std::rethrow_exception(bug);
        });
    }
    loop.run();
    const std::chrono::duration<double> took = Clock::now() - start;
    fmt::print("{:.1f}\n", static_cast<double>(answered) / took.count());
    return 0;
}

int run_server(const std::string& body_file) {
    std::ifstream file{body_file};
    const std::string body{std::istreambuf_iterator<char>{file}, {}};
    asio::io_context loop{1};
    tcp::acceptor acceptor{loop, {asio::ip::address_v4::loopback(), 0}};
    fmt::print("{}\n", acceptor.local_endpoint().port());
    std::fflush(stdout);
    asio::co_spawn(loop, serve(acceptor, body), [](std::exception_ptr bug) {
        if (bug) std::rethrow_exception(bug);
    });
    loop.run();
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{"A bare HTTP server, and load for any", "noid-bench-http"};
    app.require_subcommand(1);
    std::string body_file;
    auto* server = app.add_subcommand("serve", "answer everything with FILE; prints the port");
    server->add_option("FILE", body_file)->required()->check(CLI::ExistingFile);
    Load load;
    auto* client = app.add_subcommand("load", "print answers per second from 127.0.0.1");
    client->add_option("PORT", load.port)->required();
    client->add_option("PATH", load.path)->required();
    client->add_option("--token", load.token);
    client->add_option("--connections", load.connections);
    client->add_option("--seconds", load.seconds);
    CLI11_PARSE(app, argc, argv);
    try {
        return server->parsed() ? run_server(body_file) : run_load(load);
    } catch (const std::exception& problem) {
        fmt::print(stderr, "Error: {}\n", problem.what());
        return 1;
    }
}
