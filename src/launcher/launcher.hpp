#pragma once

#include <sys/resource.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "base/fd.hpp"
#include "base/process_identity.hpp"
#include "launcher/confinement.hpp"

// Starts programs. Knows nothing of what they do.
namespace noid::launcher {

// A descriptor that the program gets under a given number.
struct InheritedFd {
    int number = 0;
    Fd fd;
};

struct ResourceLimit {
    __rlimit_resource resource = RLIMIT_CORE;
    rlim_t value = 0;  // soft and hard
};

struct ProcessSpec {
    std::filesystem::path program;         // run as it is: no shell, no search in PATH
    std::vector<std::string> arguments;    // after the program's own name
    std::vector<std::string> environment;  // "KEY=value"; nothing else is inherited
    std::filesystem::path directory = "/";
    // Standard input, output and error are /dev/null unless they are given here. No other descriptor
    // of the caller reaches the program.
    std::vector<InheritedFd> descriptors;
    std::vector<ResourceLimit> limits;
    std::optional<int> oom_score_adjustment;  // -1000 (never chosen) to 1000
    mode_t file_mode_mask = 0077;             // umask(2)
    Fd cgroup;                                // a cgroup v2 directory to be born in; none: the caller's
    Confinement confinement;
};

// A program that runs, as launch() leaves it.
struct Launched {
    ProcessIdentity identity;
    Fd pidfd;
    // The rest is set by one who launches in the name of another.
    // A pipe: how the program ended comes as one ExitStatus. Its end without one: nobody will tell.
    Fd exit_status = {};
    // Sends a signal; by the pidfd, unless set.
    std::function<Result<void>(int)> signal = {};
    std::shared_ptr<const void> held = {};  // what is the program's while it is looked after
};

// Runs the program in a session of its own, with default signal handling. Returns when it has been
// executed, or says which step failed. The process outlives the caller: nothing ends it but itself and
// signals. Blocks for the few milliseconds this takes; call it on a pool. Thread-safe.
[[nodiscard]] Result<Launched> launch(const ProcessSpec& spec);

// The program called `name` in the usual directories (/usr/local/bin, /usr/bin, /bin and their sbin), or
// `name` itself if it holds a slash. not_found if it is not there or not executable.
[[nodiscard]] Result<std::filesystem::path> find_program(std::string_view name);

}  // namespace noid::launcher
