// The floor for commands in a guest: the agent at the end of its socket, with nothing between but the
// channel, on one thread. A socket is one that leads to the agent, or SOCKET:PORT of Firecracker's vsock.
// Prints one number per line: microseconds per command, or bytes per second. With "-" for the socket it
// serves any number of them: it reads their names, one per line, and prints each again when the command has
// ended there.

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/write.hpp>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "channel/agent_channel.hpp"

namespace {

using namespace std::chrono_literals;
using namespace noid;
using Clock = std::chrono::steady_clock;
using Socket = asio::local::stream_protocol::socket;

struct Task {
    std::string socket;
    std::vector<std::string> command;
    int runs = 1;
    bool throughput = false;
    bool print = true;
};

channel::AgentChannel::Connect connect_to(const std::string& name) {
    const auto colon = name.rfind(':');
    const std::string path = name.substr(0, colon);
    std::string request;
    if (colon != std::string::npos) request = "CONNECT " + name.substr(colon + 1) + "\n";
    return [path, request]() -> Awaitable<Result<Socket>> {
        Socket socket{co_await asio::this_coro::executor};
        boost::system::error_code error;
        co_await socket.async_connect(path, asio::redirect_error(asio::use_awaitable, error));
        if (!error && !request.empty()) {
            co_await asio::async_write(socket, asio::buffer(request),
                                       asio::redirect_error(asio::use_awaitable, error));
            // "OK <port>\n"; byte by byte, as what follows it is the agent's.
            char byte = 0;
            while (!error && byte != '\n')
                co_await asio::async_read(socket, asio::buffer(&byte, 1),
                                          asio::redirect_error(asio::use_awaitable, error));
        }
        if (error) co_return fail(Errc::unavailable, path + ": " + error.message());
        co_return socket;
    };
}

// Runs the command to its end; gives the bytes it wrote.
Awaitable<Result<std::uint64_t>> run_once(channel::AgentChannel& agent, const Task& task) {
    proto::SessionSpec spec;
    spec.operation = proto::Exec{.argv = task.command, .merge_error_output = true, .input = false};
    auto session = co_await agent.open(std::move(spec));
    if (!session) co_return fail(std::move(session).error());
    std::uint64_t bytes = 0;
    while (true) {
        auto event = co_await (*session)->next();
        if (!event) co_return fail(std::move(event).error());
        if (const auto* output = std::get_if<channel::Session::Output>(&*event)) {
            bytes = output->offset + output->bytes.size();
            (*session)->acknowledge(output->stream, bytes);
        } else if (const auto* end = std::get_if<channel::Session::Ended>(&*event)) {
            if (end->how != proto::SessionEnd::How::exited || end->status != 0)
                co_return fail(Errc::internal, "the command failed: " + end->message);
            co_return bytes;
        }
    }
}

Awaitable<Result<void>> measure(std::shared_ptr<channel::AgentChannel> agent, Task task) {
    agent->start();
    auto info = co_await agent->ready(60s);
    if (!info) co_return fail(std::move(info).error());
    for (int run = 0; run < task.runs; ++run) {
        const auto start = Clock::now();
        auto bytes = co_await run_once(*agent, task);
        if (!bytes) co_return fail(std::move(bytes).error());
        const std::chrono::duration<double> took = Clock::now() - start;
        if (task.print) {
            fmt::print("{:.1f}\n",
                       task.throughput ? static_cast<double>(*bytes) / took.count() : took.count() * 1e6);
        }
    }
    agent->stop();
    co_return Result<void>{};
}

void say(const std::string& line) {
    fmt::print("{}\n", line);
    std::fflush(stdout);
}

// The first command's time in each guest whose socket is named on standard input, until that ends.
Awaitable<Result<void>> serve(Task task) {
    const auto executor = co_await asio::this_coro::executor;
    asio::posix::stream_descriptor input{executor, ::dup(STDIN_FILENO)};
    std::string lines;
    while (true) {
        boost::system::error_code error;
        const std::size_t size = co_await asio::async_read_until(
            input, asio::dynamic_buffer(lines), '\n', asio::redirect_error(asio::use_awaitable, error));
        if (error) co_return Result<void>{};
        task.socket = lines.substr(0, size - 1);
        lines.erase(0, size);
        auto agent = channel::AgentChannel::create(executor, connect_to(task.socket));
        asio::co_spawn(executor, measure(agent, task),
                       [socket = task.socket](std::exception_ptr bug, Result<void> ended) {
                           if (bug) std::rethrow_exception(bug);
                           say(ended ? socket : "failed: " + ended.error().full());
                       });
    }
}

}  // namespace

int main(int argc, char** argv) {
    Task task;
    CLI::App app{"Runs a command again and again over a bare agent channel", "noid-bench-agent"};
    app.add_option("SOCKET", task.socket,
                   "Unix socket that leads to the agent, SOCKET:PORT of Firecracker's vsock, or -")
        ->required();
    app.add_option("COMMAND", task.command, "absolute program and arguments; none: only wait for the agent");
    app.add_option("--runs", task.runs);
    app.add_flag("--throughput", task.throughput, "print bytes of output per second, not microseconds");
    CLI11_PARSE(app, argc, argv);
    if (task.command.empty()) task.runs = 0;

    asio::io_context loop{1};
    int exit_code = 1;
    std::function<Awaitable<Result<void>>()> work = [&task, &loop] {
        return measure(channel::AgentChannel::create(loop.get_executor(), connect_to(task.socket)), task);
    };
    if (task.socket == "-") {
        task.print = false;
        work = [&task] { return serve(task); };
    }
    asio::co_spawn(loop, work(), [&](std::exception_ptr bug, Result<void> ended) {
        if (bug) std::rethrow_exception(bug);
        if (!ended) fmt::print(stderr, "Error: {}\n", ended.error().full());
        exit_code = ended ? 0 : 1;
        loop.stop();
    });
    loop.run();
    return exit_code;
}
