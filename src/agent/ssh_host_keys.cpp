#include "agent/ssh_host_keys.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <optional>
#include <string_view>
#include <system_error>
#include <vector>

#include "agent/text_file.hpp"
#include "base/fd.hpp"

namespace noid::agent {

namespace {

using namespace std::chrono_literals;

constexpr auto key_limit = 120s;  // for one key; RSA on an emulated processor is slow

// Runs a program with these arguments until it ends. Whether it did its work shows in what it left:
// the agent's own reaper may have taken the exit status.
Result<void> run_to_end(std::vector<std::string> arguments, std::chrono::milliseconds limit) {
    std::vector<char*> argv;
    for (auto& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    std::array<char*, 1> environment{nullptr};

    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", 0, 0);
    ::posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", 1, 0);
    pid_t pid = -1;
    const int error = ::posix_spawn(&pid, argv[0], &actions, nullptr, argv.data(), environment.data());
    ::posix_spawn_file_actions_destroy(&actions);
    if (error != 0) return fail_errno(error, "start " + arguments[0]);

    const Fd process{static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))};
    if (!process) return {};  // ended, and reaped by the agent
    pollfd ended{process.get(), POLLIN, 0};
    int ready = -1;
    do {
        ready = ::poll(&ended, 1, static_cast<int>(limit.count()));
    } while (ready < 0 && errno == EINTR);
    if (ready == 0) ::syscall(SYS_pidfd_send_signal, process.get(), SIGKILL, nullptr, 0);
    ::waitpid(pid, nullptr, 0);
    if (ready == 0) return fail(Errc::timed_out, arguments[0] + " took too long");
    return {};
}

std::optional<std::string> find_keygen() {
    for (const char* path : {"/usr/bin/ssh-keygen", "/usr/local/bin/ssh-keygen", "/bin/ssh-keygen"}) {
        if (::access(path, X_OK) == 0) return path;
    }
    return std::nullopt;
}

// sshd has read its keys when it started; SIGHUP makes it start over.
void reload_sshd() {
    const auto text = read_text_file("/run/sshd.pid", 64);
    pid_t pid = 0;
    if (!text || std::from_chars(text->data(), text->data() + text->size(), pid).ec != std::errc{}) return;
    const Fd process{static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))};
    // The file may be left over, and the number another's by now.
    const auto name = read_text_file(fmt::format("/proc/{}/comm", pid), 64);
    if (process && name && *name == "sshd\n")
        ::syscall(SYS_pidfd_send_signal, process.get(), SIGHUP, nullptr, 0);
}

}  // namespace

Result<void> renew_ssh_host_keys(const std::string& directory) {
    std::vector<std::string> kinds;
    for (const char* kind : {"ed25519", "ecdsa", "rsa", "dsa"}) {
        if (::access(fmt::format("{}/ssh_host_{}_key", directory, kind).c_str(), F_OK) == 0)
            kinds.emplace_back(kind);
    }
    if (kinds.empty()) return {};
    const auto keygen = find_keygen();
    if (!keygen) return fail(Errc::unsupported, "the image has host keys but no ssh-keygen");

    const auto fresh_path = [&](const std::string& kind) {
        return fmt::format("{}/.noid_new_{}_key", directory, kind);
    };
    for (const auto& kind : kinds) {
        const std::string fresh = fresh_path(kind);
        ::unlink(fresh.c_str());  // ssh-keygen would ask
        ::unlink((fresh + ".pub").c_str());
        const auto run =
            run_to_end({*keygen, "-q", "-t", kind, "-N", "", "-C", "root", "-f", fresh}, key_limit);
        if (!run) return run;
        if (::access((fresh + ".pub").c_str(), F_OK) != 0) {
            return fail(Errc::internal, fmt::format("ssh-keygen made no {} key", kind));
        }
    }
    for (const auto& kind : kinds) {
        const std::string path = fmt::format("{}/ssh_host_{}_key", directory, kind);
        for (const char* suffix : {"", ".pub"}) {
            if (::rename((fresh_path(kind) + suffix).c_str(), (path + suffix).c_str()) != 0) {
                return fail_errno(errno, "replace " + path + suffix);
            }
        }
    }
    reload_sshd();
    return {};
}

}  // namespace noid::agent
