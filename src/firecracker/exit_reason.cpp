#include "firecracker/exit_reason.hpp"

#include <csignal>

namespace noid::firecracker {

namespace {

// Somebody's wish, as opposed to a fault of the program.
bool is_wish(int signal) {
    return signal == SIGKILL || signal == SIGTERM || signal == SIGINT;
}

vmm::Exit::How how_ended(const launcher::ExitStatus& status, EndedBy ended_by, std::string_view last_words) {
    using How = vmm::Exit::How;
    if (ended_by == EndedBy::us) return How::killed;
    switch (status.how) {
        case launcher::ExitStatus::How::exited:
            return status.value == 0 ? How::guest_shutdown : How::crashed;
        case launcher::ExitStatus::How::signalled:
            return is_wish(status.value) ? How::killed : How::crashed;
        case launcher::ExitStatus::How::unknown:
            break;
    }
    // Another process's child: only what it said itself is known.
    return last_words.contains("exiting successfully. exit_code=0") ? How::guest_shutdown : How::crashed;
}

}  // namespace

vmm::Exit exit_reason(const launcher::ExitStatus& status, EndedBy ended_by, std::string_view last_words) {
    vmm::Exit exit{how_ended(status, ended_by, last_words), launcher::describe(status)};
    if (exit.how == vmm::Exit::How::crashed && !last_words.empty())
        exit.detail.append("; its last words: ").append(last_words);
    return exit;
}

}  // namespace noid::firecracker
