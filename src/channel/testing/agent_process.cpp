#include "channel/testing/agent_process.hpp"

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <stdexcept>
#include <system_error>

#include "base/file.hpp"

extern "C" {  // glibc 2.36 declares these without C linkage
#include <sys/pidfd.h>
}

namespace noid::channel::testing {

AgentProcess::AgentProcess() : directory_{TemporaryDirectory::create().value()} {
    if (const char* const socket = std::getenv("NOID_TEST_AGENT_SOCKET")) {
        socket_path_ = socket;
        in_guest_ = true;
    } else {
        socket_path_ = directory_.path() / "agent.sock";
        start();
    }
}

void AgentProcess::start() {
    std::string program = NOID_AGENT_PROGRAM;
    std::string option = "--listen-unix";
    std::string path = socket_path_;
    std::array<char*, 4> words{program.data(), option.data(), path.data(), nullptr};
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_addclosefrom_np(&actions, 3);  // what this test was started with
    const int error = ::posix_spawn(&pid_, program.c_str(), &actions, nullptr, words.data(), environ);
    ::posix_spawn_file_actions_destroy(&actions);
    if (error != 0) throw std::system_error(error, std::generic_category(), program);
    process_.reset(::pidfd_open(pid_, 0));
}

void AgentProcess::end() noexcept {
    if (!process_) return;
    ::pidfd_send_signal(process_.get(), SIGTERM, nullptr, 0);
    siginfo_t ignored{};
    ::waitid(P_PIDFD, static_cast<id_t>(process_.get()), &ignored, WEXITED);
    process_.reset();
}

void AgentProcess::restart() {
    end();
    start();
}

std::size_t AgentProcess::memory() const {
    const auto text = read_file("/proc/" + std::to_string(pid_) + "/statm", 4096).value();
    const std::string resident = text.substr(text.find(' ') + 1);
    return std::stoul(resident) * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace noid::channel::testing
