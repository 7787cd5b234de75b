#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <optional>

#include "cli/commands/execute.hpp"
#include "cli/console_input.hpp"
#include "cli/exec_request.hpp"
#include "cli/failure.hpp"
#include "cli/local_input.hpp"
#include "cli/local_output.hpp"
#include "cli/task_group.hpp"
#include "cli/terminal.hpp"
#include "cli/vm_request.hpp"
#include "cli/web_socket.hpp"
#include "wire/stream.hpp"

namespace noid::cli {
namespace {

// While it lives, the terminal marks what is pasted.
class PasteMarks {
  public:
    PasteMarks() { write("\x1b[?2004h"); }
    ~PasteMarks() { write("\x1b[?2004l"); }
    PasteMarks(const PasteMarks&) = delete;
    PasteMarks& operator=(const PasteMarks&) = delete;

  private:
    static void write(std::string_view text) {
        print(text);
        std::fflush(stdout);
    }
};

// The serial console of one VM at this terminal, or at whatever stdin and stdout are.
class SerialConsole {
  public:
    SerialConsole(const Context& context, WebSocket& socket)
        : context_{context}, socket_{socket}, tasks_{context.executor} {}

    Awaitable<Result<void>> run() {
        const Signals::TakeOver take_over{context_.signals, [this](int signal) {
                                              ended_by_ = signal;
                                              socket_.abort();
                                          }};
        auto output = LocalOutput::open(context_.executor, STDOUT_FILENO);
        if (!output) co_return fail(output.error());
        tasks_.spawn(copy_input());
        auto copied = co_await copy_output(*output);
        socket_.abort();
        tasks_.cancel();
        co_await tasks_.join();
        co_return copied;
    }
    // The signal that ended it; 0: none did.
    [[nodiscard]] int ended_by() const { return ended_by_; }

  private:
    Awaitable<Result<void>> copy_output(LocalOutput& output) {
        for (;;) {
            auto message = co_await socket_.read();
            if (!message || message->kind == WebSocket::Kind::closed) co_return Result<void>{};
            if (message->kind == WebSocket::Kind::text) {
                auto said = wire::parse_server_message(message->data);
                if (const auto* error = said ? std::get_if<wire::ErrorBody>(&*said) : nullptr)
                    co_return fail(Errc::unavailable, printable(error->error));
                continue;
            }
            if (message->data.empty() || message->data.front() != static_cast<char>(wire::Channel::output))
                continue;
            if (auto written = co_await output.write(message->data.substr(1)); !written) co_return written;
        }
    }

    Awaitable<void> copy_input() {
        auto input = LocalInput::open(context_.executor, STDIN_FILENO);
        ConsoleInput console_input;
        constexpr char head = static_cast<char>(wire::Channel::input);
        while (input) {
            auto bytes = co_await input->read(wire::max_stream_payload);
            if (!bytes || bytes->empty()) break;
            const auto typed = console_input.feed(*bytes);
            if (!typed.bytes.empty()) {
                if (auto sent = co_await socket_.write_binary({&head, 1}, typed.bytes); !sent) co_return;
            }
            if (typed.leave) break;
        }
        co_await socket_.close();
    }

    const Context& context_;
    WebSocket& socket_;
    TaskGroup tasks_;
    int ended_by_ = 0;
};

Awaitable<Result<int>> use_serial_console(const Context& context, const VmOnServer& vm) {
    auto socket = co_await WebSocket::connect(vm.client.account(), vm.target + "/console",
                                              WebSocket::Watch::off, context.trace());
    if (!socket) co_return fail(caused_by(socket.error().error, "failed to connect to console WebSocket"));
    print_line(fmt::format("Attached to '{}' serial console.", vm.name));
    print_line("Type 'exit' to detach.");
    std::fflush(stdout);

    SerialConsole console{context, **socket};
    Result<void> served;
    {
        std::optional<RawMode> raw;
        std::optional<PasteMarks> paste_marks;
        if (is_terminal(STDIN_FILENO)) {
            auto entered = RawMode::enter(STDIN_FILENO);
            if (!entered) co_return fail(entered.error());
            raw.emplace(std::move(*entered));
            paste_marks.emplace();
        }
        served = co_await console.run();
    }
    print("\r\n--- Detached ---\n");
    if (!served) co_return fail(served.error());
    co_return console.ended_by() == 0 ? 0 : 128 + console.ended_by();
}

}  // namespace

Awaitable<Result<int>> execute(const Context& context, Console command) {
    auto vm = find_vm(context, command.vm);
    if (!vm) co_return fail(vm.error());
    if (context.json)
        co_return fail(Errc::invalid, "a console has no JSON form; `noid logs --json` has its output");
    if (command.env.empty()) co_return co_await use_serial_console(context, *vm);
    // Variables typed into a serial shell would stay in its history and in the log: a shell of its
    // own gets them as its environment.
    CommandOptions shell;
    shell.env = std::move(command.env);
    shell.tty = true;
    co_return co_await run_command(context, std::move(*vm), std::move(shell));
}

}  // namespace noid::cli
