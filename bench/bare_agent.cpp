// The floor for commands in a guest: the agent at the end of its socket, with nothing between but the
// channel, on one thread. Prints one number per line: microseconds per command, or bytes per second.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
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
};

channel::AgentChannel::Connect connect_to(std::string path) {
    return [path]() -> Awaitable<Result<Socket>> {
        Socket socket{co_await asio::this_coro::executor};
        boost::system::error_code error;
        co_await socket.async_connect(path, asio::redirect_error(asio::use_awaitable, error));
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
        fmt::print("{:.1f}\n",
                   task.throughput ? static_cast<double>(*bytes) / took.count() : took.count() * 1e6);
    }
    agent->stop();
    co_return Result<void>{};
}

}  // namespace

int main(int argc, char** argv) {
    Task task;
    CLI::App app{"Runs a command again and again over a bare agent channel", "noid-bench-agent"};
    app.add_option("SOCKET", task.socket, "Unix socket that leads to the agent")->required();
    app.add_option("COMMAND", task.command, "absolute program and arguments; none: only wait for the agent");
    app.add_option("--runs", task.runs);
    app.add_flag("--throughput", task.throughput, "print bytes of output per second, not microseconds");
    CLI11_PARSE(app, argc, argv);
    if (task.command.empty()) task.runs = 0;

    asio::io_context loop{1};
    auto agent = channel::AgentChannel::create(loop.get_executor(), connect_to(task.socket));
    int exit_code = 1;
    asio::co_spawn(loop, measure(agent, task), [&](std::exception_ptr bug, Result<void> ended) {
        if (bug) std::rethrow_exception(bug);
        if (!ended) fmt::print(stderr, "Error: {}\n", ended.error().full());
        exit_code = ended ? 0 : 1;
        loop.stop();
    });
    loop.run();
    return exit_code;
}
