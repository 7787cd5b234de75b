#include "cli/program.hpp"

#include <fmt/format.h>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/io_context.hpp>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <optional>
#include <utility>

#include "cli/arguments.hpp"
#include "cli/commands/execute.hpp"
#include "cli/environment.hpp"
#include "cli/failure.hpp"
#include "cli/terminal.hpp"

namespace noid::cli {
namespace {

int show(const Notice& notice) {
    std::fputs(notice.text.c_str(), notice.is_error ? stderr : stdout);
    return notice.exit_code;
}

Awaitable<Result<int>> dispatch(const Context& context, Command command) {
    auto run = [&](auto&& which) { return execute(context, std::forward<decltype(which)>(which)); };
    co_return co_await std::visit(run, std::move(command));
}

// What a command's end means for the process.
int conclude(const Context& context, const Result<int>& result) {
    if (const int signal = context.signals.cancelled_by()) return 128 + signal;
    if (result) return *result;
    std::fputs(describe(result.error(), context.json).c_str(), stderr);
    return 1;
}

int run_command_on_loop(const Environment& environment, Invocation invocation) {
    asio::io_context loop{1};
    Signals signals{loop.get_executor()};
    const Context context{loop.get_executor(), environment, signals, invocation.account, invocation.json};
    Result<int> result = fail(Errc::internal, "the command did not end");
    std::exception_ptr thrown;
    asio::cancellation_signal cancellation;
    signals.cancel_with([&] { cancellation.emit(asio::cancellation_type::terminal); });
    asio::co_spawn(
        loop, dispatch(context, std::move(invocation.command)),
        asio::bind_cancellation_slot(cancellation.slot(), [&](std::exception_ptr error, Result<int> value) {
            thrown = error;
            result = std::move(value);
            signals.stop();
        }));
    loop.run();
    if (thrown && signals.cancelled_by() == 0) std::rethrow_exception(thrown);
    return conclude(context, result);
}

// Buffered output that does not arrive must not pass for success.
int flush_output(int exit_code) {
    if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return exit_code;
    if (errno == EPIPE) return 128 + SIGPIPE;
    print_notice(fmt::format("Error: cannot write the output: {}", std::strerror(errno)));
    return 1;
}

}  // namespace

int run_program(std::vector<std::string> arguments) {
    std::signal(SIGPIPE, SIG_IGN);  // a reader that is gone is an error of write(2), handled where it happens
    auto parsed = parse_arguments(std::move(arguments));
    if (const auto* notice = std::get_if<Notice>(&parsed)) return flush_output(show(*notice));
    auto& invocation = std::get<Invocation>(parsed);
    const bool json = invocation.json;
    try {
        auto environment = Environment::of_process();
        if (!environment) {
            std::fputs(describe(environment.error(), json).c_str(), stderr);
            return 1;
        }
        return flush_output(run_command_on_loop(*environment, std::move(invocation)));
    } catch (const std::exception& bug) {
        RawMode::restore_before_exit();
        std::fputs(describe(Error{Errc::internal, bug.what(), {}}, json).c_str(), stderr);
        return 1;
    }
}

}  // namespace noid::cli
