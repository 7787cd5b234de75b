#pragma once

#include <filesystem>
#include <string>

#include "base/fd.hpp"
#include "base/temporary_directory.hpp"

namespace noid::channel::testing {

// A real noid-agent as a process of this machine, which serves a Unix socket. Ended by the destructor.
// With NOID_TEST_AGENT_SOCKET in the environment: the one in a guest whose agent port that socket is.
class AgentProcess {
  public:
    AgentProcess();
    AgentProcess(const AgentProcess&) = delete;
    AgentProcess& operator=(const AgentProcess&) = delete;
    ~AgentProcess() { end(); }

    [[nodiscard]] bool is_in_guest() const noexcept { return in_guest_; }
    // Where it listens, as soon as it does.
    [[nodiscard]] const std::string& socket_path() const noexcept { return socket_path_; }
    // The test's to use; the agent sees it, too, unless it is in a guest.
    [[nodiscard]] const std::filesystem::path& directory() const noexcept { return directory_.path(); }
    // Resident memory in bytes.
    [[nodiscard]] std::size_t memory() const;
    // Kills it and starts another, which knows nothing of the first one's sessions.
    void restart();

  private:
    void start();
    void end() noexcept;

    TemporaryDirectory directory_;
    std::string socket_path_;
    bool in_guest_ = false;
    Fd process_;
    int pid_ = 0;
};

}  // namespace noid::channel::testing
