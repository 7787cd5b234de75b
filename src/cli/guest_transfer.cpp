#include "cli/guest_transfer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "cli/failure.hpp"
#include "cli/task_group.hpp"

namespace noid::cli {
namespace {

// What a guest may say about a transfer that failed; the rest is not kept.
constexpr std::size_t longest_complaint = 4096;

class Transferring {
  public:
    Transferring(const Context& context, const VmOnServer& vm, TransferEnd local)
        : context_{context},
          local_{std::move(local)},
          session_{context.executor, options(vm)},
          inputs_{context.executor},
          outputs_{context.executor} {}

    Awaitable<Result<TransferOutcome>> run(RemoteSession::Transfer what) {
        const Signals::TakeOver take_over{context_.signals, [this](int signal) { on_signal(signal); }};
        inputs_.spawn(send());
        outputs_.spawn(receive());
        outputs_.spawn(collect_complaint());
        const auto ending = co_await session_.run(std::move(what));
        inputs_.cancel();
        co_await inputs_.join();
        if (std::holds_alternative<RemoteSession::Abandoned>(ending)) outputs_.cancel();
        co_await outputs_.join();
        if (failure_) co_return fail(*failure_);
        if (ended_by_ != 0) co_return TransferOutcome{ended_by_};
        if (auto result = result_of(ending); !result) co_return fail(result.error());
        co_return TransferOutcome{};
    }

  private:
    RemoteSession::Options options(const VmOnServer& vm) {
        RemoteSession::Options options{
            .account = vm.client.account(), .vm = vm.name, .trace = context_.trace()};
        options.interrupted = [](const std::string& what) { print_notice(what + "; resuming"); };
        options.resumed = [] { print_notice("resumed"); };
        options.dropped = [this](std::uint64_t) {
            give_up(Error{Errc::corrupt, "the server did not keep what was lost with the connection", {}});
        };
        return options;
    }

    void on_signal(int signal) {
        const bool again = std::exchange(ended_by_, signal) != 0;
        if (again || !session_.connected() || session_.id().empty()) {
            session_.abandon();
        } else {
            session_.cancel();
        }
    }

    void give_up(Error error) {
        if (!failure_) failure_ = std::move(error);
        session_.cancel();
    }

    Awaitable<void> send() {
        if (!local_.source) {
            session_.end_input();
            co_return;
        }
        while (co_await session_.room_for_input()) {
            std::string bytes(wire::max_stream_payload, '\0');
            auto count = co_await local_.source(bytes);
            if (!count) {
                give_up(count.error());
                co_return;
            }
            if (*count == 0) {
                session_.end_input();
                co_return;
            }
            bytes.resize(*count);
            session_.send_input(std::move(bytes));
        }
    }

    Awaitable<void> receive() {
        for (;;) {
            const auto bytes = co_await session_.next_output(wire::Channel::output);
            if (bytes.empty()) co_return;
            if (local_.sink && !failure_) {
                if (auto taken = co_await local_.sink(bytes); !taken) give_up(taken.error());
            }
            session_.written(wire::Channel::output, bytes.size());
        }
    }

    Awaitable<void> collect_complaint() {
        for (;;) {
            const auto bytes = co_await session_.next_output(wire::Channel::error_output);
            if (bytes.empty()) co_return;
            complaint_.append(bytes, 0, longest_complaint - complaint_.size());
            session_.written(wire::Channel::error_output, bytes.size());
        }
    }

    [[nodiscard]] Result<void> result_of(const RemoteSession::Ending& ending) const {
        if (auto error = RemoteSession::error_of(ending)) {
            if (std::holds_alternative<RemoteSession::Lost>(ending)) error->what += ". Start the copy again";
            return fail(std::move(*error));
        }
        const auto* finished = std::get_if<RemoteSession::Finished>(&ending);
        if (finished && finished->result.exit_code == 0) return {};
        return fail(Errc::unavailable, complaint_.empty() ? "the transfer was ended in the VM" : complaint());
    }

    // In one line, without the name that the server puts before its own.
    [[nodiscard]] std::string complaint() const {
        std::string_view text = complaint_;
        if (text.starts_with("noid: ")) text.remove_prefix(6);
        while (text.ends_with('\n')) text.remove_suffix(1);
        return printable(text);
    }

    const Context& context_;
    TransferEnd local_;
    RemoteSession session_;
    TaskGroup inputs_;
    TaskGroup outputs_;
    std::string complaint_;
    std::optional<Error> failure_;
    int ended_by_ = 0;
};

}  // namespace

Awaitable<Result<TransferOutcome>> transfer(const Context& context, const VmOnServer& vm,
                                            RemoteSession::Transfer what, TransferEnd local) {
    Transferring transferring{context, vm, std::move(local)};
    co_return co_await transferring.run(std::move(what));
}

}  // namespace noid::cli
