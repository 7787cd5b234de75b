#include "agent/spawn.hpp"

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <string_view>

#ifndef __x86_64__
#error "the agent starts programs by a stub of x86-64 assembly"
#endif

namespace noid::agent {
namespace {

using Failed = Spawned::Failed;

constexpr std::size_t stack_size = 64 * 1024;

std::vector<char*> pointers(const std::vector<std::string>& words) {
    std::vector<char*> result;
    result.reserve(words.size() + 1);
    // execve takes char*, and does not write to what it points to.
    for (const auto& word : words) result.push_back(const_cast<char*>(word.c_str()));
    result.push_back(nullptr);
    return result;
}

// The files that execve is tried on: the name itself when it has a slash, else along PATH.
std::vector<std::string> candidates(const Program& program) {
    const std::string& name = program.argv.front();
    if (name.find('/') != std::string::npos) return {name};
    std::string_view path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    for (const std::string_view variable : program.env) {
        if (variable.starts_with("PATH=")) path = variable.substr(5);
    }
    std::vector<std::string> result;
    for (std::size_t from = 0; from <= path.size();) {
        const std::size_t to = std::min(path.find(':', from), path.size());
        const std::string_view directory = path.substr(from, to - from);
        result.push_back((directory.empty() ? std::string{"."} : std::string{directory}) + "/" + name);
        from = to + 1;
    }
    return result;
}

// All that the child needs, made before it begins: it shares our memory and must not allocate.
struct Child {
    const Program& program;
    std::vector<char*> argv;
    std::vector<char*> script_argv;  // "/bin/sh", the file, the arguments: for a file without "#!"
    std::vector<char*> env;
    std::vector<std::string> files;
    volatile Failed failed = Failed::no;
    volatile int error_number = 0;

    [[noreturn]] void give_up(Failed where) {
        error_number = errno;
        failed = where;
        ::_exit(127);
    }
    [[noreturn]] void run();
};

// Raw system calls where glibc's wrappers would speak to other threads.
void Child::run() {
    struct sigaction by_default {};
    by_default.sa_handler = SIG_DFL;
    for (int number = 1; number < NSIG; ++number) ::sigaction(number, &by_default, nullptr);
    ::setsid();
    if (program.controlling_terminal && ::ioctl(program.standard[0], TIOCSCTTY, 0) != 0)
        give_up(Failed::terminal);
    // Lifted above 2 first, so that none overwrites another.
    std::array<int, 3> lifted{};
    for (std::size_t i = 0; i < lifted.size(); ++i) {
        lifted[i] = ::fcntl(program.standard[i], F_DUPFD_CLOEXEC, 3);
        if (lifted[i] < 0) give_up(Failed::program);
    }
    for (std::size_t i = 0; i < lifted.size(); ++i) {
        if (::dup2(lifted[i], static_cast<int>(i)) < 0) give_up(Failed::program);
    }
    // The agent may be spared by the out-of-memory killer; what it starts is not.
    if (const int file = ::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC); file >= 0) {
        [[maybe_unused]] const auto written = ::write(file, "0", 1);
        ::close(file);
    }
    const Account& account = program.account;
    if (::syscall(SYS_setgroups, account.groups.size(), account.groups.data()) != 0 && errno != EPERM)
        give_up(Failed::user);
    if (::syscall(SYS_setresgid, account.gid, account.gid, account.gid) != 0) give_up(Failed::user);
    if (::syscall(SYS_setresuid, account.uid, account.uid, account.uid) != 0) give_up(Failed::user);
    if (::chdir(program.cwd.c_str()) != 0) give_up(Failed::directory);
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    int reason = ENOENT;
    for (const auto& file : files) {
        ::execve(file.c_str(), argv.data(), env.data());
        if (errno == ENOEXEC) {
            script_argv[1] = const_cast<char*>(file.c_str());
            ::execve(script_argv[0], script_argv.data(), env.data());
        }
        // A file that is there but cannot be run says more than one that is not there.
        if (errno != ENOENT && errno != ENOTDIR) reason = errno;
    }
    errno = reason;
    give_up(Failed::program);
}

[[noreturn]] void enter(Child* child) {
    child->run();
}

// clone3 for a child that shares our memory while we wait, on a stack of its own. glibc has no wrapper
// for it, and a C function cannot make the call: the child would return into a frame that its new
// stack does not have.
long clone_onto_stack(clone_args& arguments, Child& child) {
    long result = SYS_clone3;
    asm volatile(
        "syscall\n\t"
        "test %%rax, %%rax\n\t"
        "jnz 1f\n\t"
        "mov %[child], %%rdi\n\t"
        "call *%[function]\n\t"
        "hlt\n"
        "1:"
        : "+a"(result)
        : "D"(&arguments), "S"(sizeof arguments), [child] "r"(&child), [function] "r"(&enter)
        : "rcx", "r11", "memory", "cc");
    return result;
}

// Kept from child to child: the agent's one thread waits until each has left it.
void* child_stack() {
    static void* const stack =
        ::mmap(nullptr, stack_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    return stack;
}

}  // namespace

Spawned spawn(const Program& program) {
    Child child{.program = program,
                .argv = pointers(program.argv),
                .script_argv = {},
                .env = pointers(program.env),
                .files = candidates(program)};
    child.script_argv = {const_cast<char*>("/bin/sh"), nullptr};
    child.script_argv.insert(child.script_argv.end(), child.argv.begin() + 1, child.argv.end());
    if (!program.name.empty()) child.argv[0] = const_cast<char*>(program.name.c_str());

    void* const stack = child_stack();
    if (stack == MAP_FAILED) return {.failed = Failed::fork, .error_number = ENOMEM};
    clone_args arguments{};
    arguments.flags = CLONE_VM | CLONE_VFORK;
    arguments.exit_signal = SIGCHLD;
    arguments.stack = reinterpret_cast<std::uintptr_t>(stack);
    arguments.stack_size = stack_size;
    if (program.cgroup >= 0) {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = static_cast<std::uint64_t>(program.cgroup);
    }
    // No signal may run a handler of ours in the child while it shares our memory.
    sigset_t all;
    sigset_t before;
    ::sigfillset(&all);
    ::sigprocmask(SIG_SETMASK, &all, &before);
    long pid = clone_onto_stack(arguments, child);
    if (pid < 0 && program.cgroup >= 0) {
        // A cgroup that takes no processes (threaded, or frozen by a limit) is no reason to fail.
        arguments.flags &= ~static_cast<std::uint64_t>(CLONE_INTO_CGROUP);
        arguments.cgroup = 0;
        pid = clone_onto_stack(arguments, child);
    }
    ::sigprocmask(SIG_SETMASK, &before, nullptr);
    if (pid < 0) return {.failed = Failed::fork, .error_number = static_cast<int>(-pid)};
    return {.pid = static_cast<pid_t>(pid), .failed = child.failed, .error_number = child.error_number};
}

}  // namespace noid::agent
