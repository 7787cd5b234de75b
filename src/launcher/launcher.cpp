#include "launcher/launcher.hpp"

#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "base/file.hpp"
#include "launcher/capabilities.hpp"
#include "launcher/private_root.hpp"
#include "launcher/system_calls.hpp"

namespace noid::launcher {

namespace {

// The steps of a child on its way to the program, in their order. The child reports the one that failed.
enum class Step : int {
    signals,
    session,
    network,
    mounts,
    limits,
    oom,
    root,
    descriptors,
    directory,
    identity,
    privileges,
    system_calls,
    execute
};

std::string_view what_failed(Step step) {
    switch (step) {
        case Step::signals:
            return "cannot reset signals";
        case Step::session:
            return "cannot start a session";
        case Step::network:
            return "cannot enter the network namespace";
        case Step::mounts:
            return "cannot make mounts private";
        case Step::limits:
            return "cannot set resource limits";
        case Step::oom:
            return "cannot set the OOM score";
        case Step::root:
            return "cannot make a root of its own";
        case Step::descriptors:
            return "cannot pass descriptors";
        case Step::directory:
            return "cannot enter the working directory";
        case Step::identity:
            return "cannot change user and group";
        case Step::privileges:
            return "cannot give up new privileges";
        case Step::system_calls:
            return "cannot take system calls away";
        case Step::execute:
            return "cannot execute the program";
    }
    return "cannot start";
}

struct Failure {
    Step step;
    int error_number;
};

std::vector<char*> pointers_to(const std::vector<std::string>& strings) {
    std::vector<char*> pointers;
    pointers.reserve(strings.size() + 1);
    for (const auto& each : strings) pointers.push_back(const_cast<char*>(each.c_str()));
    pointers.push_back(nullptr);
    return pointers;
}

// Everything that the child needs, made before it exists: between clone and exec it may neither
// allocate nor take a lock, because it is a copy of one thread of many.
struct Prepared {
    const ProcessSpec& spec;
    std::vector<std::string> argument_strings;
    std::vector<char*> arguments;
    std::vector<char*> environment;
    std::string oom_score;
    Fd network;
    std::optional<PreparedRoot> root;
    Fd null;
    std::vector<int> moved;  // the child's copies of the inherited descriptors, in their order
    int first_free = 3;      // above every number that the program is to find something at
    Fd error_reader;
    Fd error_writer;
};

Result<Prepared> prepare(const ProcessSpec& spec) {
    Prepared prepared{.spec = spec};
    prepared.argument_strings.push_back(spec.program.string());
    prepared.argument_strings.insert(prepared.argument_strings.end(), spec.arguments.begin(),
                                     spec.arguments.end());
    prepared.arguments = pointers_to(prepared.argument_strings);
    prepared.environment = pointers_to(spec.environment);
    if (spec.oom_score_adjustment) prepared.oom_score = std::to_string(*spec.oom_score_adjustment);
    if (!spec.confinement.network_namespace.empty()) {
        auto network = open_file(spec.confinement.network_namespace, O_RDONLY);
        if (!network) return fail(std::move(network.error()));
        prepared.network = std::move(*network);
    }
    if (spec.confinement.root) {
        auto root = PreparedRoot::prepare(*spec.confinement.root, spec.confinement.credentials);
        if (!root) return fail(std::move(root.error()));
        prepared.root = std::move(*root);
    }
    auto null = open_file("/dev/null", O_RDWR);
    if (!null) return fail(std::move(null.error()));
    prepared.null = std::move(*null);
    prepared.moved.resize(spec.descriptors.size());
    for (const auto& each : spec.descriptors)
        prepared.first_free = std::max(prepared.first_free, each.number + 1);
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail_errno(errno, "cannot make a pipe");
    prepared.error_reader = Fd{ends[0]};
    prepared.error_writer = Fd{ends[1]};
    return prepared;
}

bool reset_signals() {
    struct sigaction standard {};
    standard.sa_handler = SIG_DFL;
    for (int number = 1; number < NSIG; ++number) {
        // Fails for SIGKILL, SIGSTOP and the two that glibc keeps; those have nothing to reset.
        ::sigaction(number, &standard, nullptr);
    }
    sigset_t none;
    ::sigemptyset(&none);
    return ::sigprocmask(SIG_SETMASK, &none, nullptr) == 0;
}

bool set_limits(const std::vector<ResourceLimit>& limits) {
    return std::all_of(limits.begin(), limits.end(), [](const ResourceLimit& each) {
        const rlimit limit{each.value, each.value};
        return ::setrlimit(each.resource, &limit) == 0;
    });
}

bool set_oom_score(const std::string& score) {
    const int file = ::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    return file >= 0 && ::write(file, score.data(), score.size()) == static_cast<ssize_t>(score.size());
}

bool place_descriptors(Prepared& prepared, int& error_writer) {
    // First out of the way of all target numbers, so that no target overwrites a source.
    const int free = prepared.first_free;
    if ((error_writer = ::fcntl(error_writer, F_DUPFD_CLOEXEC, free)) < 0) return false;
    const int null = ::fcntl(prepared.null.get(), F_DUPFD_CLOEXEC, free);
    if (null < 0) return false;
    for (std::size_t i = 0; i < prepared.moved.size(); ++i) {
        prepared.moved[i] = ::fcntl(prepared.spec.descriptors[i].fd.get(), F_DUPFD_CLOEXEC, free);
        if (prepared.moved[i] < 0) return false;
    }
    // Also what other parts of the process opened without close-on-exec stays behind.
    if (::syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC) != 0) return false;
    for (int standard = 0; standard <= 2; ++standard)
        if (::dup2(null, standard) < 0) return false;
    for (std::size_t i = 0; i < prepared.moved.size(); ++i)
        if (::dup2(prepared.moved[i], prepared.spec.descriptors[i].number) < 0) return false;
    return true;
}

// Whether it begins with a copy of the caller's: not where a root has been made ready.
bool copies_mounts(const Confinement& confinement) {
    return confinement.root ? !confinement.ready : confinement.own_mounts;
}

bool enter_root(const Prepared& prepared) {
    const auto& ready = prepared.spec.confinement.ready;
    const bool is_in =
        ready ? ::setns(ready->mounts.get(), CLONE_NEWNS) == 0 && ::chdir("/") == 0 : make_empty_root();
    return is_in && prepared.root->fill();
}

[[noreturn]] void give_up(int error_writer, Step step) {
    const Failure failure{step, errno};
    // Nobody is left to hear of a failing write.
    [[maybe_unused]] const auto written = ::write(error_writer, &failure, sizeof failure);
    ::_exit(127);
}

[[noreturn]] void become_program(Prepared& prepared) {
    const ProcessSpec& spec = prepared.spec;
    const Confinement& confinement = spec.confinement;
    int error_writer = prepared.error_writer.get();
    if (!reset_signals()) give_up(error_writer, Step::signals);
    if (::setsid() < 0) give_up(error_writer, Step::session);
    // While the caller's privileges are still there.
    if (prepared.network && ::setns(prepared.network.get(), CLONE_NEWNET) != 0)
        give_up(error_writer, Step::network);
    if (confinement.ready && confinement.own_network &&
        ::setns(confinement.ready->network.get(), CLONE_NEWNET) != 0)
        give_up(error_writer, Step::network);
    if (confinement.own_mounts && !confinement.root &&
        ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
        give_up(error_writer, Step::mounts);
    ::umask(spec.file_mode_mask);
    if (!set_limits(spec.limits)) give_up(error_writer, Step::limits);
    if (spec.oom_score_adjustment && !set_oom_score(prepared.oom_score)) give_up(error_writer, Step::oom);
    if (prepared.root && !enter_root(prepared)) give_up(error_writer, Step::root);
    const int before_move = error_writer;
    if (!place_descriptors(prepared, error_writer))
        give_up(error_writer < 0 ? before_move : error_writer, Step::descriptors);
    if (confinement.credentials && !change_identity(*confinement.credentials, {}))
        give_up(error_writer, Step::identity);
    // As the new user: a directory that it may not enter is no place to run it in.
    if (::chdir(spec.directory.c_str()) != 0) give_up(error_writer, Step::directory);
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) give_up(error_writer, Step::privileges);
    if (confinement.few_system_calls && !refuse_system_calls(confinement.userfaultfd))
        give_up(error_writer, Step::system_calls);
    ::execve(prepared.arguments[0], prepared.arguments.data(), prepared.environment.data());
    give_up(error_writer, Step::execute);
}

std::uint64_t clone_flags(const ProcessSpec& spec) {
    std::uint64_t flags = CLONE_PIDFD;
    if (spec.cgroup) flags |= CLONE_INTO_CGROUP;
    if (copies_mounts(spec.confinement)) flags |= CLONE_NEWNS;
    if (spec.confinement.own_pids) flags |= CLONE_NEWPID;
    if (spec.confinement.own_ipc) flags |= CLONE_NEWIPC;
    if (spec.confinement.own_host_name) flags |= CLONE_NEWUTS;
    if (spec.confinement.own_network && !spec.confinement.ready) flags |= CLONE_NEWNET;
    return flags;
}

// As fork(2): 0 in the child.
pid_t clone_self(const ProcessSpec& spec, int& pidfd) {
    clone_args args{};
    args.flags = clone_flags(spec);
    args.pidfd = reinterpret_cast<std::uint64_t>(&pidfd);
    args.exit_signal = SIGCHLD;
    args.cgroup = spec.cgroup ? static_cast<std::uint64_t>(spec.cgroup.get()) : 0;
    const long pid = ::syscall(SYS_clone3, &args, sizeof args);
    if (pid >= 0 || errno != ENOSYS || spec.cgroup) return static_cast<pid_t>(pid);
    // Filters of system calls cannot look into clone3's arguments, so those that restrict namespaces
    // (systemd's RestrictNamespaces=, containers) refuse all of it. Only for the control group there is no
    // other way.
    return static_cast<pid_t>(
        ::syscall(SYS_clone, clone_flags(spec) | SIGCHLD, nullptr, &pidfd, nullptr, nullptr));
}

// What the child says before it runs the program: nothing, or where it failed.
std::optional<Failure> read_failure(const Fd& reader) {
    Failure failure{};
    ssize_t got = 0;
    do got = ::read(reader.get(), &failure, sizeof failure);
    while (got < 0 && errno == EINTR);
    if (got != static_cast<ssize_t>(sizeof failure)) return std::nullopt;
    return failure;
}

void reap(const Fd& pidfd) {
    siginfo_t ignored{};
    while (::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(pidfd.get()), &ignored, WEXITED) != 0 &&
           errno == EINTR) {
    }
}

}  // namespace

Result<Launched> launch(const ProcessSpec& spec) {
    auto prepared = prepare(spec);
    if (!prepared) return fail(std::move(prepared.error()).at("start " + spec.program.filename().string()));

    int pidfd = -1;
    const pid_t pid = clone_self(spec, pidfd);
    if (pid == 0) become_program(*prepared);
    if (pid < 0) return fail_errno(errno, "cannot start " + spec.program.filename().string());
    Launched launched{.identity = {.pid = pid}, .pidfd = Fd{pidfd}};

    prepared->error_writer.reset();
    if (const auto failure = read_failure(prepared->error_reader)) {
        reap(launched.pidfd);
        return fail_errno(failure->error_number, "start " + spec.program.filename().string() + ": " +
                                                     std::string{what_failed(failure->step)});
    }
    // Not reaped yet, so the pid is still its own even if it has ended.
    const auto identity = identify(pid);
    if (!identity) return fail(identity.error());
    launched.identity = *identity;
    return launched;
}

Result<std::filesystem::path> find_program(std::string_view name) {
    const auto missing = fail(Errc::not_found, "program " + std::string{name} + " not found");
    if (name.find('/') != std::string_view::npos) {
        std::filesystem::path path{name};
        if (::access(path.c_str(), X_OK) != 0) return missing;
        return path;
    }
    for (const auto* directory :
         {"/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin"}) {
        auto path = std::filesystem::path{directory} / name;
        if (::access(path.c_str(), X_OK) == 0) return path;
    }
    return missing;
}

}  // namespace noid::launcher
