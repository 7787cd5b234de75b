#include "net/iptables.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "launcher/captured_output.hpp"
#include "launcher/launcher.hpp"

// glibc 2.36 declares these without C linkage.
extern "C" {
#include <sys/pidfd.h>
}

namespace noid::net {

namespace {

constexpr int deadline_ms = 15'000;
constexpr std::size_t longest_output = 4 * 1024 * 1024;

// Waits for the process and reaps it. It gets no longer than the deadline.
Result<siginfo_t> wait_for(const Fd& pidfd) {
    pollfd wait{pidfd.get(), POLLIN, 0};
    int ready = 0;
    do ready = ::poll(&wait, 1, deadline_ms);
    while (ready < 0 && errno == EINTR);
    const bool is_late = ready == 0;
    if (is_late) ::pidfd_send_signal(pidfd.get(), SIGKILL, nullptr, 0);
    siginfo_t info{};
    while (::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(pidfd.get()), &info, WEXITED) != 0)
        if (errno != EINTR) return fail_errno(errno, "cannot wait for iptables");
    if (is_late) return fail(Errc::timed_out, "iptables did not end");
    return info;
}

}  // namespace

Result<std::string> run_iptables(std::vector<std::string> arguments) {
    auto program = launcher::find_program("iptables");
    if (!program) return fail(std::move(program.error()));
    const auto output = launcher::CapturedOutput::create(longest_output);
    const auto errors = launcher::CapturedOutput::create(longest_output);
    if (!output) return fail(output.error());
    if (!errors) return fail(errors.error());
    auto output_writer = output->writer();
    auto error_writer = errors->writer();
    if (!output_writer || !error_writer) return fail(Errc::internal, "cannot capture output");

    launcher::ProcessSpec spec;
    spec.program = *program;
    // Others who change rules at this moment hold the lock for a moment only.
    spec.arguments = {"-w", "10"};
    spec.arguments.insert(spec.arguments.end(), arguments.begin(), arguments.end());
    spec.descriptors.push_back({STDOUT_FILENO, std::move(*output_writer)});
    spec.descriptors.push_back({STDERR_FILENO, std::move(*error_writer)});
    const auto launched = launcher::launch(spec);
    if (!launched) return fail(launched.error());
    const auto ended = wait_for(launched->pidfd);
    if (!ended) return fail(ended.error());
    if (ended->si_code == CLD_EXITED && ended->si_status == 0) return output->text(longest_output);
    constexpr std::size_t last_words = 512;
    return fail(Errc::internal,
                fmt::format("iptables {}: {}", fmt::join(arguments, " "), errors->text(last_words)));
}

std::vector<std::string> words_of(std::string_view text) {
    std::vector<std::string> words;
    while (!text.empty()) {
        const auto space = text.find(' ');
        if (space != 0) words.emplace_back(text.substr(0, space));
        if (space == std::string_view::npos) break;
        text.remove_prefix(space + 1);
    }
    return words;
}

std::vector<IptablesRule> marked_rules(const std::string& table, const std::string& chain,
                                       std::string_view listing, std::string_view mark) {
    const std::string start = fmt::format("-A {} ", chain);
    const std::string comment = fmt::format(" --comment {} ", mark);
    std::vector<IptablesRule> rules;
    while (!listing.empty()) {
        const auto end = listing.find('\n');
        const auto line = listing.substr(0, end);
        if (line.starts_with(start) && line.find(comment) != std::string_view::npos)
            rules.push_back({table, chain, std::string{line.substr(start.size())}});
        if (end == std::string_view::npos) break;
        listing.remove_prefix(end + 1);
    }
    return rules;
}

}  // namespace noid::net
