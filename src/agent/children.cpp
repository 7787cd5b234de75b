#include "agent/children.hpp"

#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <system_error>
#include <utility>

namespace noid::agent {

Children::Children(EventLoop& loop) {
    sigset_t child;
    ::sigemptyset(&child);
    ::sigaddset(&child, SIGCHLD);
    ::sigprocmask(SIG_BLOCK, &child, nullptr);
    signals_.reset(::signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!signals_) throw std::system_error(errno, std::generic_category(), "signalfd");
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);
    watch_ = EventLoop::Watch{loop, signals_.get(), [this](std::uint32_t) {
                                  signalfd_siginfo ignored;
                                  while (::read(signals_.get(), &ignored, sizeof ignored) > 0) {
                                  }
                                  reap();
                              }};
}

void Children::reap() {
    int status = 0;
    for (pid_t pid = ::waitpid(-1, &status, WNOHANG); pid > 0; pid = ::waitpid(-1, &status, WNOHANG)) {
        if (auto node = awaited_.extract(pid)) node.mapped()(status);
    }
}

}  // namespace noid::agent
