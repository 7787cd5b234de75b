#include "cli/exec_at_terminal.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <boost/asio/signal_set.hpp>
#include <cerrno>
#include <csignal>
#include <optional>
#include <utility>

#include "cli/escape_filter.hpp"
#include "cli/failure.hpp"
#include "cli/local_input.hpp"
#include "cli/local_output.hpp"
#include "cli/task_group.hpp"
#include "cli/terminal.hpp"

namespace noid::cli {
namespace {

constexpr char ctrl_c = 0x03;

std::optional<wire::WindowSize> current_window() {
    const auto size = window_size(STDIN_FILENO);
    if (!size) return std::nullopt;
    return wire::WindowSize{size->columns, size->rows};
}

// One remote command and what of this process belongs to it.
class AtTerminal {
  public:
    AtTerminal(const Context& context, RemoteSession::Options options, LocalEnds ends)
        : context_{context},
          ends_{ends},
          at_our_terminal_{ends.tty && is_terminal(STDIN_FILENO)},
          session_{context.executor, with_callbacks(std::move(options))},
          inputs_{context.executor},
          outputs_{context.executor},
          window_changes_{context.executor, SIGWINCH} {}

    Awaitable<Result<TerminalOutcome>> run(RemoteSession::Start start) {
        if (auto* request = std::get_if<wire::ExecRequest>(&start); request && ends_.tty)
            request->size = current_window();
        const Signals::TakeOver take_over{context_.signals, [this](int signal) { on_signal(signal); }};
        outputs_.spawn(copy_output(wire::Channel::output, STDOUT_FILENO));
        outputs_.spawn(copy_output(wire::Channel::error_output, STDERR_FILENO));
        if (ends_.input) inputs_.spawn(copy_input());
        if (at_our_terminal_) inputs_.spawn(follow_window());

        TerminalOutcome outcome;
        outcome.ending = co_await session_.run(std::move(start));
        inputs_.cancel();
        co_await inputs_.join();
        if (std::holds_alternative<RemoteSession::Abandoned>(outcome.ending)) outputs_.cancel();
        ended_ = true;
        co_await outputs_.join();
        raw_.reset();
        if (output_failure_) co_return fail(*output_failure_);
        outcome.output_gone = output_gone_;
        outcome.ended_by = ended_by_;
        co_return outcome;
    }

  private:
    RemoteSession::Options with_callbacks(RemoteSession::Options options) {
        options.opened = [this](const std::string&) { on_opened(); };
        options.interrupted = [this](const std::string& what) { say(what + "; resuming"); };
        options.resumed = [this] { say("resumed"); };
        options.dropped = [this](std::uint64_t bytes) {
            if (!ends_.tty) say(fmt::format("warning: {} bytes of output are no longer kept", bytes));
        };
        return options;
    }

    // A line of ours, which a raw terminal needs a carriage return for.
    void say(const std::string& text) const { print_notice(raw_ ? fmt::format("\r{}\r", text) : text); }

    void on_opened() {
        if (!at_our_terminal_) return;
        if (!raw_) {
            auto raw = RawMode::enter(STDIN_FILENO);
            if (raw) raw_.emplace(std::move(*raw));
        }
        if (const auto size = current_window()) session_.resize(*size);
    }

    void on_signal(int signal) {
        ++signals_;
        if (ended_) {  // only a reader of our output keeps us here
            ended_by_ = signal;
            outputs_.cancel();
        } else if (!session_.connected() || session_.id().empty()) {
            ended_by_ = signal;
            session_.abandon();
        } else if (signal == SIGINT && signals_ < 3) {
            session_.send_signal(signal);
            if (signals_ == 2) say("Ctrl-C once more kills the command");
        } else if (!std::exchange(cancelling_, true)) {
            ended_by_ = signal;
            session_.cancel();
        } else {
            ended_by_ = signal;
            session_.abandon();
        }
    }

    Awaitable<void> copy_output(wire::Channel stream, int fd) {
        auto output = LocalOutput::open(context_.executor, fd);
        // A descriptor that is closed from the start is as good as one that nobody reads.
        bool discard = !output;
        for (;;) {
            const auto bytes = co_await session_.next_output(stream);
            if (bytes.empty()) co_return;
            if (!discard) {
                if (auto written = co_await output->write(bytes); !written) {
                    discard = true;
                    on_output_failure(stream, written.error());
                }
            }
            session_.written(stream, bytes.size());
        }
    }

    void on_output_failure(wire::Channel stream, const Error& error) {
        if (error.cause.value() != EPIPE) {
            if (!output_failure_) output_failure_ = error;
        } else if (stream == wire::Channel::output) {
            output_gone_ = true;
        } else {
            return;  // without stderr a command goes on
        }
        if (!std::exchange(cancelling_, true)) session_.cancel();
    }

    Awaitable<void> copy_input() {
        auto input = LocalInput::open(context_.executor, STDIN_FILENO);
        EscapeFilter escapes;
        while (input && co_await session_.room_for_input()) {
            auto bytes = co_await input->read(wire::max_stream_payload);
            if (!bytes) say(bytes.error().what);
            if (!bytes || bytes->empty()) break;
            if (!at_our_terminal_) {
                session_.send_input(std::move(*bytes));
                continue;
            }
            if (!session_.connected() && bytes->find(ctrl_c) != std::string::npos) {
                ended_by_ = SIGINT;
                session_.abandon();
                co_return;
            }
            auto typed = escapes.feed(*bytes);
            session_.send_input(std::move(typed.bytes));
            if (typed.leave) {
                session_.detach();
                co_return;
            }
        }
        session_.end_input();
    }

    Awaitable<void> follow_window() {
        for (;;) {
            co_await window_changes_.async_wait(asio::use_awaitable);
            if (const auto size = current_window()) session_.resize(*size);
        }
    }

    const Context& context_;
    LocalEnds ends_;
    bool at_our_terminal_;
    RemoteSession session_;
    TaskGroup inputs_;
    TaskGroup outputs_;
    asio::signal_set window_changes_;
    std::optional<RawMode> raw_;
    std::optional<Error> output_failure_;
    bool output_gone_ = false;
    bool cancelling_ = false;
    bool ended_ = false;
    int signals_ = 0;
    int ended_by_ = 0;
};

int report_finished(const RemoteSession::Finished& finished, const TerminalOutcome& outcome) {
    const auto& result = finished.result;
    if (result.truncated && !finished.had_session)
        print_notice("warning: output was truncated (exceeded 1MB limit)");
    if (outcome.output_gone) return 128 + SIGPIPE;
    if (result.timed_out) {
        print_notice("exec timed out");
        return 124;
    }
    if (result.exit_code) return *result.exit_code;
    if (result.signal) return 128 + *result.signal;
    if (!finished.had_session) return 0;  // a server without sessions leaves it out where it is 0
    if (outcome.ended_by != 0) return 128 + outcome.ended_by;
    print_notice("error: the command was killed before it ended by itself");
    return 255;
}

}  // namespace

Awaitable<Result<TerminalOutcome>> run_at_terminal(const Context& context, RemoteSession::Options options,
                                                   RemoteSession::Start start, LocalEnds ends) {
    AtTerminal at_terminal{context, std::move(options), ends};
    co_return co_await at_terminal.run(std::move(start));
}

int report_outcome(const TerminalOutcome& outcome, const std::string& vm) {
    const auto& ending = outcome.ending;
    if (const auto* finished = std::get_if<RemoteSession::Finished>(&ending))
        return report_finished(*finished, outcome);
    if (const auto* detached = std::get_if<RemoteSession::Detached>(&ending)) {
        print_notice(fmt::format("Detached. The command runs on; come back with: noid attach {} {}", vm,
                                 detached->id));
        return 0;
    }
    if (const auto* failed = std::get_if<RemoteSession::Failed>(&ending)) {
        // We had it killed: with the session went its result.
        if (outcome.output_gone) return 128 + SIGPIPE;
        if (outcome.ended_by != 0) return 128 + outcome.ended_by;
        print_notice("error: " + printable(failed->what));
        return 1;
    }
    if (const auto* refused = std::get_if<RemoteSession::Refused>(&ending)) {
        print_notice("Error: " + refused->error.what);
        return 1;
    }
    if (const auto* lost = std::get_if<RemoteSession::Lost>(&ending)) {
        print_notice("Error: " + lost->what);
        if (!lost->session.empty()) {
            print_notice(fmt::format("If the command still runs, `noid attach {} {}` finds it again", vm,
                                     lost->session));
        }
        return 255;
    }
    return outcome.ended_by != 0 ? 128 + outcome.ended_by : 255;
}

}  // namespace noid::cli
