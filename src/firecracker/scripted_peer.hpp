#pragma once

#include <boost/asio/buffer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/write.hpp>
#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "base/async.hpp"
#include "base/fd.hpp"
#include "base/unix_socket.hpp"

// Test only: a peer at a Unix socket that takes one connection after the other and answers each from a
// script.
namespace noid::firecracker {

// What Firecracker 1.16.1 answered, byte for byte.
inline constexpr const char* no_content =
    "HTTP/1.1 204 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n\r\n";
inline std::string ok(const std::string& body) {
    return "HTTP/1.1 200 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\nContent-Type: "
           "application/json\r\nContent-Length: " +
           std::to_string(body.size()) + "\r\n\r\n" + body;
}
inline std::string bad_request(const std::string& body) {
    return "HTTP/1.1 400 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\nContent-Type: "
           "application/json\r\nContent-Length: " +
           std::to_string(body.size()) + "\r\n\r\n" + body;
}
inline std::string instance(const std::string& state) {
    return ok(R"({"id":"a-1","state":")" + state + R"(","vmm_version":"1.16.1","app_name":"Firecracker"})");
}

class ScriptedPeer {
  public:
    // A connection's first lines are read up to `end_of_request`, answered with the next of `answers`,
    // and the connection is closed; an empty answer keeps it open and silent.
    ScriptedPeer(asio::io_context& loop, const Fd& directory, const std::string& name,
                 std::string end_of_request, std::deque<std::string> answers)
        : acceptor_{loop, asio::local::stream_protocol{}, listen_unix_at(directory, name, 8)->release()},
          end_of_request_{std::move(end_of_request)},
          answers_{std::move(answers)} {
        asio::co_spawn(loop, serve(), [](std::exception_ptr) {});
    }

    std::vector<std::string> requests;  // what came, up to what one read gave
    std::function<void(const std::string& request)> before_answer = [](const std::string&) {};

  private:
    Awaitable<void> serve() {
        for (;;) {
            auto socket = co_await acceptor_.async_accept(asio::use_awaitable);
            std::string request;
            co_await asio::async_read_until(socket, asio::dynamic_buffer(request), end_of_request_,
                                            asio::use_awaitable);
            before_answer(request);
            requests.push_back(std::move(request));
            if (answers_.empty()) co_return;
            auto answer = std::move(answers_.front());
            answers_.pop_front();
            if (answer.empty()) {
                silent_.push_back(std::move(socket));
                continue;
            }
            co_await asio::async_write(socket, asio::buffer(answer), asio::use_awaitable);
        }
    }

    asio::local::stream_protocol::acceptor acceptor_;
    std::string end_of_request_;
    std::deque<std::string> answers_;
    std::vector<asio::local::stream_protocol::socket> silent_;
};

// Runs one coroutine to its end.
inline void run(asio::io_context& loop, Awaitable<void> body) {
    std::exception_ptr thrown;
    asio::co_spawn(loop, std::move(body), [&](std::exception_ptr e) {
        thrown = e;
        loop.stop();
    });
    loop.run();
    if (thrown) std::rethrow_exception(thrown);
}

}  // namespace noid::firecracker
