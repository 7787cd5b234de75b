#pragma once

#include <sys/types.h>

#include <array>
#include <string>
#include <vector>

#include "agent/accounts.hpp"

namespace noid::agent {

// A program to start in a session and process group of its own.
struct Program {
    std::vector<std::string> argv;  // not empty; searched in env's PATH unless it has a slash
    std::string name;               // what it sees as argv[0]; empty: argv[0]
    std::vector<std::string> env;   // the whole environment
    std::string cwd = "/";
    Account account;
    std::array<int, 3> standard{};      // become 0, 1, 2
    bool controlling_terminal = false;  // standard[0] is a terminal and becomes that
    int cgroup = -1;                    // a cgroup's directory to start in
};

// How far the child came before its program ran.
struct Spawned {
    enum class Failed : std::uint8_t { no, fork, terminal, user, directory, program };
    pid_t pid = -1;  // also the process group; a child that failed has to be reaped too
    Failed failed = Failed::no;
    int error_number = 0;
};

// Starts it without copying the agent's address space. Returns when the program runs or has failed.
[[nodiscard]] Spawned spawn(const Program& program);

}  // namespace noid::agent
