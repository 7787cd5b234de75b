// A hostile program in the place of QEMU and of Firecracker, started as they are: what it tries
// (testing/hostile_program.cpp), and what it gets.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "base/file.hpp"
#include "base/temporary_directory.hpp"
#include "firecracker/jail.hpp"
#include "firecracker/metrics.hpp"
#include "firecracker/process_spec.hpp"
#include "firecracker/stdio_fifos.hpp"
#include "launcher/captured_output.hpp"
#include "privileged/local_warden.hpp"
#include "privileged/remote_warden.hpp"
#include "privileged/service.hpp"
#include "qemu/jail.hpp"
#include "qemu/process_spec.hpp"
#include "vm/data_directory.hpp"

namespace noid::privileged {
namespace {

namespace fs = std::filesystem;
using testing::AnyOf;
using testing::EndsWith;

constexpr launcher::UserRange users{.first = 64'200, .count = 8};
constexpr launcher::Credentials server{.user = 64'000, .group = 64'000};
constexpr int patience_ms = 60'000;
constexpr std::size_t most_output = 64 * 1024;

// Order → what came of it.
using Outcomes = std::map<std::string, std::string>;

Outcomes read_outcomes(const std::string& text) {
    Outcomes outcomes;
    std::istringstream lines{text};
    for (std::string line; std::getline(lines, line);) {
        const auto at = line.rfind(": ");
        if (at == std::string::npos)
            outcomes[line] = "";
        else
            outcomes[line.substr(0, at)] = line.substr(at + 2);
    }
    return outcomes;
}

void end(const launcher::Launched& process) {
    ::syscall(SYS_pidfd_send_signal, process.pidfd.get(), SIGKILL, nullptr, 0);
}

void wait_for_end(const launcher::Launched& process) {
    pollfd ended{.fd = process.pidfd.get(), .events = POLLIN, .revents = 0};
    EXPECT_EQ(::poll(&ended, 1, patience_ms), 1) << "it does not end";
    end(process);
    siginfo_t info{};
    ::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(process.pidfd.get()), &info, WEXITED);
}

// A service of the host, which listens as long as this lives.
template <class Address>
Fd listen_at(int family, Address& address, socklen_t size) {
    Fd listener{::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    auto* const place = reinterpret_cast<sockaddr*>(&address);
    socklen_t room = sizeof address;
    if (!listener || ::bind(listener.get(), place, size) != 0 || ::listen(listener.get(), 4) != 0 ||
        ::getsockname(listener.get(), place, &room) != 0)
        return Fd{};
    return listener;
}

class HostileVmmTest : public testing::TestWithParam<vmm::Kind> {
  protected:
    void SetUp() override {
        if (::geteuid() != 0) GTEST_SKIP() << "confinement takes root";
        if (!fs::exists("/dev/kvm") && GetParam() == vmm::Kind::firecracker)
            GTEST_SKIP() << "Firecracker's root takes a /dev/kvm, and here is none";
        std::ofstream{home_.path() / "vmlinux"} << "a kernel";
        for (const char* name : {"a", "b"}) make_vm(name);
        LocalWarden::Options options;
        options.qemu = options.firecracker = NOID_HOSTILE_PROGRAM;
        options.data_dir = data();
        options.users = users;
        options.server = server;
        auto warden = LocalWarden::open(std::move(options));
        ASSERT_TRUE(warden) << warden.error().full();
        warden_ = std::move(*warden);
        // The first to start gets namespaces that are there already, others make theirs.
        warden_->get_ready();
    }
    void TearDown() override {
        for (const auto& process : staying_) {
            end(process);
            wait_for_end(process);
        }
    }

    [[nodiscard]] fs::path data() const { return home_.path() / "data"; }
    [[nodiscard]] fs::path vm(const std::string& name) const { return data() / "users" / "1" / "vms" / name; }

    void make_vm(const std::string& name) const {
        const auto directory = vm(name);
        fs::create_directories(directory);
        std::ofstream{directory / "rootfs.ext4"} << "the disk of " << name;
        std::ofstream{directory / "memory.snap"} << std::string(8192, 'm');
        if (GetParam() == vmm::Kind::firecracker) {
            for (const auto* fifo : {firecracker::input_fifo, firecracker::output_fifo, firecracker::log_fifo,
                                     firecracker::metrics_fifo})
                ASSERT_EQ(::mkfifo((directory / fifo).c_str(), 0600), 0);
        }
        for (const auto& entry : fs::directory_iterator{directory})
            ASSERT_EQ(::chown(entry.path().c_str(), server.user, server.group), 0);
        ASSERT_EQ(::chown(directory.c_str(), server.user, server.group), 0);
        // As a save or the start of a clone leaves it: many map the same file.
        ASSERT_EQ(::chmod((directory / "memory.snap").c_str(), 0444), 0);
    }

    [[nodiscard]] vmm::MachineSpec machine(const std::string& name) const {
        vmm::MachineSpec spec;
        spec.id = name;
        spec.directory = vm(name);
        spec.kernel = home_.path() / "vmlinux";
        return spec;
    }

    // In the place of the VMM of that VM, with its standard output in `output`.
    [[nodiscard]] launcher::Launched start(const std::string& name, const std::string& orders,
                                           const launcher::CapturedOutput& output) const {
        return start(name, orders, std::move(*output.writer()));
    }
    [[nodiscard]] launcher::Launched start(const std::string& name, const std::string& orders,
                                           Fd output) const {
        put_orders(name, orders);
        vmm::ProcessRequest request;
        request.spec = machine(name);
        if (GetParam() == vmm::Kind::qemu)
            request.program = vmm::QemuStart{};
        else
            request.program = vmm::FirecrackerStart{};
        request.descriptors.push_back({STDOUT_FILENO, std::move(output)});
        auto launched = warden_->start(std::move(request));
        EXPECT_TRUE(launched) << launched.error().full();
        return launched ? std::move(*launched) : launcher::Launched{};
    }
    void put_orders(const std::string& name, const std::string& orders) const {
        std::ofstream{vm(name) / "orders"} << orders;
        fs::permissions(vm(name) / "orders", fs::perms{0644});
    }

    [[nodiscard]] Outcomes attempt(const std::string& orders) const {
        const auto output = launcher::CapturedOutput::create(most_output);
        const auto process = start("a", orders, *output);
        if (process.pidfd) wait_for_end(process);
        return read_outcomes(output->text(most_output));
    }

    // The VMM of another VM, which is there until the end of the test.
    pid_t neighbour() {
        const auto output = launcher::CapturedOutput::create(most_output);
        auto process = start("b", "stay\n", *output);
        const pid_t pid = process.identity.pid;
        if (process.pidfd) staying_.push_back(std::move(process));
        return pid;
    }

    // As the VMM of "a" is started, for a test to take a layer away.
    [[nodiscard]] launcher::ProcessSpec specification(const std::string& orders) const {
        put_orders("a", orders);
        const launcher::Credentials user{.user = users.first + users.count, .group = users.first};
        return GetParam() == vmm::Kind::qemu
                   ? qemu::process_spec(NOID_HOSTILE_PROGRAM, machine("a"), vmm::QemuStart{}, user)
                   : firecracker::process_spec(NOID_HOSTILE_PROGRAM, machine("a"), user);
    }
    [[nodiscard]] Outcomes outcomes_of(launcher::ProcessSpec spec) const {
        const auto output = launcher::CapturedOutput::create(most_output);
        spec.descriptors.push_back({STDOUT_FILENO, std::move(*output->writer())});
        fs::permissions(vm("a"), fs::perms{0755});
        const auto process = launcher::launch(spec);
        EXPECT_TRUE(process) << process.error().full();
        if (process) wait_for_end(*process);
        return read_outcomes(output->text(most_output));
    }

    // To where the VMs are, which are its own already.
    void let_server_enter() const {
        fs::permissions(home_.path(), fs::perms{0755});
        for (auto path = vm("a").parent_path(); path != home_.path(); path = path.parent_path())
            ASSERT_EQ(::chown(path.c_str(), server.user, server.group), 0);
    }
    // Whether a process of the server's user removes a tree. With help: as a server asks for it, over a
    // socket.
    enum class Help : std::uint8_t { none, of_warden };
    [[nodiscard]] bool removes_as_server(const fs::path& tree, Help help) const {
        std::array<int, 2> ends{};
        EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()), 0);
        Fd ours{ends[0]};
        Fd theirs{ends[1]};
        const pid_t child = ::fork();
        if (child == 0) {
            ours.reset();
            if (::setgroups(0, nullptr) != 0 || ::setresgid(server.group, server.group, server.group) != 0 ||
                ::setresuid(server.user, server.user, server.user) != 0)
                ::_exit(2);
            const auto remote = std::make_shared<RemoteWarden>(std::move(theirs), vmm::HostDevices{});
            const auto removed =
                help == Help::none ? noid::vm::remove_tree(tree) : noid::vm::remove_tree(tree, *remote);
            if (!removed && help != Help::none) std::fprintf(stderr, "%s\n", removed.error().full().c_str());
            ::_exit(removed ? 0 : 1);
        }
        theirs.reset();
        Service{std::move(ours), std::shared_ptr<vmm::Warden>{std::shared_ptr<void>{}, warden_.get()}, {}}
            .run();
        int status = 0;
        EXPECT_EQ(::waitpid(child, &status, 0), child);
        EXPECT_NE(status, 2 << 8) << "it cannot become the server's user";
        return status == 0;
    }

    [[nodiscard]] launcher::CgroupLimits limits() const {
        return GetParam() == vmm::Kind::qemu ? qemu::limits_of(machine("a"), true)
                                             : firecracker::limits_of(machine("a"));
    }
    // unsupported, in words, where that controller does not hold.
    static Result<launcher::Cgroups> control_groups(const std::string& controller) {
        const auto usual = launcher::Cgroups::usual_directory();
        if (!usual) return fail(usual.error());
        auto groups = launcher::Cgroups::open(usual->parent_path() / "noid-hostile-test");
        if (groups && std::ranges::find(groups->missing(), controller) != groups->missing().end())
            return fail(Errc::unsupported,
                        "this host's cgroup v2 has no " + controller +
                            " controller: that limit does not hold here, and is not tried");
        return groups;
    }

    TemporaryDirectory home_ = std::move(*TemporaryDirectory::create());
    std::unique_ptr<LocalWarden> warden_;
    std::vector<launcher::Launched> staying_;
};

INSTANTIATE_TEST_SUITE_P(BothVmms, HostileVmmTest, testing::Values(vmm::Kind::qemu, vmm::Kind::firecracker),
                         [](const auto& kind) { return std::string{vmm::name_of(kind.param)}; });

void expect(const Outcomes& outcomes, const Outcomes& expected) {
    for (const auto& [order, error] : expected) {
        const auto found = outcomes.find(order);
        ASSERT_NE(found, outcomes.end()) << order << " was not tried";
        // "EPERM or ENOSYS": what this host's kernel was built without it does not even refuse.
        if (const auto either = error.find(" or "); either != std::string::npos)
            EXPECT_THAT(found->second, AnyOf(error.substr(0, either), error.substr(either + 4))) << order;
        else
            EXPECT_EQ(found->second, error) << order;
    }
    EXPECT_TRUE(outcomes.contains("done")) << "it did not get to the end";
    EXPECT_EQ(outcomes.size(), expected.size() + 1);
}

std::string orders_of(const Outcomes& expected) {
    std::string text;
    for (const auto& [order, error] : expected) text += order + "\n";
    return text;
}

TEST_P(HostileVmmTest, ReadsNoFileButItsOwn) {
    const auto secret = home_.path() / "secret";
    std::ofstream{secret} << "everybody on the host may read it";
    fs::permissions(secret, fs::perms{0666});
    fs::permissions(home_.path(), fs::perms{0755});
    const auto mine = vm("a").string();
    const auto other = vm("b").string();
    const Outcomes expected{
        {"read rootfs.ext4", "ok"},
        {"write rootfs.ext4", "ok"},
        {"read " + secret.string(), "ENOENT"},
        {"read " + other + "/rootfs.ext4", "ENOENT"},
        {"read ../b/rootfs.ext4", "ENOENT"},
        {"read " + mine + "/../b/memory.snap", "ENOENT"},
        {"read /etc/passwd", "ENOENT"},
        {"read /etc/shadow", "ENOENT"},
        {"read /root", "ENOENT"},
        {"read /proc/self/root/etc/passwd", "ENOENT"},
        {"read /proc/1/root", "ENOENT"},
        {"read /proc/1/mem", "ENOENT"},
        {"read /sys/kernel", "ENOENT"},
        {"read /dev/mem", "ENOENT"},
        {"read /dev/vda", "ENOENT"},
        {"read /dev/sda", "ENOENT"},
        {"read /dev/net/tun", "ENOENT"},
        {"read /run/noid-netd.sock", "ENOENT"},
        {"by-handle " + mine, "EPERM"},
        {"create /new", "EROFS"},
        {"write " + std::string{NOID_HOSTILE_PROGRAM}, "EACCES"},
        {"leave-root", "EPERM"},
    };
    expect(attempt(orders_of(expected)), expected);
}

TEST_P(HostileVmmTest, CannotChangeWhatOthersShareOrTheServerTrusts) {
    // Clones of other VMs map the same file.
    fs::create_hard_link(vm("a") / "memory.snap", home_.path() / "shared");
    // QEMU makes nothing in the directory; Firecracker does, and it is sticky.
    const std::string kept = GetParam() == vmm::Kind::qemu ? "EACCES" : "EPERM";
    const Outcomes expected{
        {"read memory.snap", "ok"},          {"write memory.snap", "EACCES"},
        {"truncate memory.snap", "EACCES"},  {"map-shared memory.snap", "EACCES"},
        {"let-all memory.snap", "EPERM"},    {"take memory.snap", "EPERM"},
        {"remove memory.snap", kept},        {"rename memory.snap x", kept},
        {"remove rootfs.ext4", kept},        {"rename rootfs.ext4 y", kept},
        {"rename orders memory.snap", kept},
    };
    expect(attempt(orders_of(expected)), expected);
    EXPECT_EQ(read_file(home_.path() / "shared", 1 << 20), std::string(8192, 'm'));
}

TEST_P(HostileVmmTest, ReachesNoOtherProcess) {
    const auto other = neighbour();
    Outcomes expected{{"signal-all", "ESRCH"}, {"within-reach 4194304", "0"}};
    for (const auto process : {::getpid(), other}) {
        const auto number = " " + std::to_string(process);
        for (const char* order : {"signal", "hold", "slow-down", "limit"}) expected[order + number] = "ESRCH";
        for (const char* order : {"trace", "peek"}) expected[order + number] = "EPERM";
    }
    expect(attempt(orders_of(expected)), expected);
    EXPECT_EQ(::kill(other, 0), 0);
}

// Each layer stands alone: what another would have stopped already is tried without that one.
TEST_P(HostileVmmTest, ReachesNoOtherProcessThatItCanSee) {
    const auto other = neighbour();
    Outcomes expected;
    for (const auto process : {::getpid(), other}) {
        const auto number = " " + std::to_string(process);
        for (const char* order : {"signal", "trace", "peek", "limit"}) expected[order + number] = "EPERM";
        expected["slow-down" + number] = "EPERM";
    }
    auto spec = specification(orders_of(expected));
    spec.confinement.own_pids = false;
    spec.confinement.few_system_calls = false;
    expect(outcomes_of(std::move(spec)), expected);
}

TEST_P(HostileVmmTest, SeesNoProcessThatItCouldTrace) {
    Outcomes expected;
    for (const auto process : {::getpid(), neighbour()}) {
        const auto number = " " + std::to_string(process);
        for (const char* order : {"trace", "peek"}) expected[order + number] = "ESRCH";
    }
    auto spec = specification(orders_of(expected));
    spec.confinement.few_system_calls = false;
    expect(outcomes_of(std::move(spec)), expected);
}

TEST_P(HostileVmmTest, ReachesNoNetwork) {
    sockaddr_in ip{};
    ip.sin_family = AF_INET;
    ip.sin_addr.s_addr = ::htonl(INADDR_LOOPBACK);
    const auto tcp = listen_at(AF_INET, ip, sizeof ip);
    ASSERT_TRUE(tcp);
    sockaddr_un place{};
    place.sun_family = AF_UNIX;
    const std::string name = "noid-hostile-test-" + std::to_string(::getpid());
    std::copy(name.begin(), name.end(), place.sun_path + 1);
    const auto abstract =
        listen_at(AF_UNIX, place, static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size()));
    ASSERT_TRUE(abstract);
    sockaddr_un path{};
    path.sun_family = AF_UNIX;
    const auto file = (home_.path() / "socket").string();
    std::copy(file.begin(), file.end(), path.sun_path);
    const auto unix_socket = listen_at(AF_UNIX, path, sizeof path);
    ASSERT_TRUE(unix_socket);

    const auto port = std::to_string(::ntohs(ip.sin_port));
    const Outcomes expected{
        {"tcp 127.0.0.1 " + port, "ENETUNREACH"},
        {"tcp 172.16.0.1 7654", "ENETUNREACH"},
        {"tcp 169.254.169.254 80", "ENETUNREACH"},
        {"udp 8.8.8.8 53", "ENETUNREACH"},
        {"unix " + file, "ENOENT"},
        {"abstract " + name, "ECONNREFUSED"},
        {"raw", "EPERM"},
        {"packet", "EPERM"},
        {"netlink", "EPERM"},
        {"vsock 1 1024", "EPERM"},
        {"vsock 2 1024", "EPERM"},
        {"loopback-up", "EPERM"},
        {"unshare net", "EPERM"},
    };
    expect(attempt(orders_of(expected)), expected);
}

TEST_P(HostileVmmTest, WidensNoRight) {
    const Outcomes expected{
        {"become-root", "EPERM"},
        {"all-capabilities", "EPERM"},
        {"unshare user", "EPERM"},
        {"unshare mounts", "EPERM"},
        {"unshare both", "EPERM"},
        {"clone user", "EPERM"},
        {"clone pids", "EPERM"},
        {"mount", "EPERM"},
        {"remount", "EPERM"},
        {"unmount", "EPERM"},
        {"make-disk", GetParam() == vmm::Kind::qemu ? "EACCES" : "EPERM"},
        {"kernel bpf", "EPERM"},
        {"kernel perf", "EPERM"},
        {"kernel keys", "EPERM"},
        {"kernel userfaultfd", "EPERM"},
        // Of its own faults: QEMU's helps to see what its guest writes.
        {"kernel userfaultfd-of-own", GetParam() == vmm::Kind::qemu ? "ok or ENOSYS" : "EPERM"},
        {"kernel io_uring", "ENOSYS"},
        {"kernel module", "EPERM"},
        {"kernel subvolume", "EPERM"},
        {"kernel read-only", "EPERM"},
        {"kernel kexec", "EPERM"},
        {"kernel reboot", "EPERM"},
        {"kernel host-name", "EPERM"},
        {"kernel clock", "EPERM"},
        {"kernel priority", "EACCES"},
        {"kernel open-files", "EPERM"},
    };
    expect(attempt(orders_of(expected)), expected);
}

// What the user without capabilities is refused, without the filter of system calls.
TEST_P(HostileVmmTest, WidensNoRightAsItsUser) {
    const Outcomes expected{
        {"become-root", "EPERM"},
        {"all-capabilities", "EPERM"},
        {"unshare net", "EPERM"},
        {"unshare mounts", "EPERM"},
        {"clone pids", "EPERM"},
        {"mount", "EPERM"},
        {"remount", "EPERM"},
        {"unmount", "EPERM"},
        {"make-disk", "EACCES"},
        {"leave-root", "EPERM"},
        {"kernel module", "EPERM or ENOSYS"},
        {"kernel kexec", "EPERM or ENOSYS"},
        {"kernel reboot", "EPERM"},
        {"kernel host-name", "EPERM"},
        {"kernel clock", "EPERM"},
        {"raw", "EPERM"},
        {"packet", "EPERM"},
        {"by-handle " + vm("a").string(), "EPERM"},
    };
    auto spec = specification(orders_of(expected));
    spec.confinement.few_system_calls = false;
    expect(outcomes_of(std::move(spec)), expected);
}

TEST_P(HostileVmmTest, FindsNoSharedMemory) {
    const key_t key = 0x6e6f0000 + (::getpid() & 0xffff);
    const int segment = ::shmget(key, 4096, IPC_CREAT | 0666);
    ASSERT_GE(segment, 0);
    const Outcomes expected{{"shared-memory " + std::to_string(key), "ENOENT"}};
    const auto outcomes = attempt(orders_of(expected));
    ::shmctl(segment, IPC_RMID, nullptr);
    expect(outcomes, expected);
}

TEST_P(HostileVmmTest, StartsNoMoreProcessesThanAllowed) {
    const auto outcomes = attempt("forks 5000\n");
    ASSERT_TRUE(outcomes.contains("forks 5000"));
    const auto& outcome = outcomes.at("forks 5000");
    EXPECT_THAT(outcome, EndsWith(" then EAGAIN"));
    EXPECT_LT(std::stoul(outcome), limits().tasks * launcher::tasks_of_user_factor);
}

// Each of the two bounds on processes stands alone.
TEST_P(HostileVmmTest, ItsControlGroupHoldsNoMoreProcesses) {
    const auto groups = control_groups("pids");
    if (!groups) GTEST_SKIP() << groups.error().what;
    const auto group = groups->make("hostile", limits());
    ASSERT_TRUE(group) << group.error().full();
    auto spec = specification("forks 5000\n");
    std::erase_if(spec.limits, [](const auto& each) { return each.resource == RLIMIT_NPROC; });
    spec.cgroup = std::move(*group->descriptor());
    const auto outcomes = outcomes_of(std::move(spec));
    ASSERT_TRUE(outcomes.contains("forks 5000"));
    EXPECT_THAT(outcomes.at("forks 5000"), EndsWith(" then EAGAIN"));
    EXPECT_LT(std::stoul(outcomes.at("forks 5000")), limits().tasks);
}

TEST_P(HostileVmmTest, TooMuchMemoryEndsItAndNobodyElse) {
    const auto groups = control_groups("memory");
    if (!groups) GTEST_SKIP() << groups.error().what;
    const auto other = neighbour();
    const auto group = groups->make("hostile", limits());
    ASSERT_TRUE(group) << group.error().full();
    const auto beyond = (limits().memory >> 20) * 2 + 64;
    auto spec = specification("memory 8\nmemory " + std::to_string(beyond) + "\nread rootfs.ext4\n");
    spec.cgroup = std::move(*group->descriptor());
    const auto outcomes = outcomes_of(std::move(spec));
    EXPECT_EQ(outcomes.at("memory 8"), "ok");
    EXPECT_FALSE(outcomes.contains("done")) << "it lives on";
    EXPECT_FALSE(outcomes.contains("read rootfs.ext4"));
    EXPECT_EQ(::kill(other, 0), 0);
}

// QEMU makes no files. Of what Firecracker makes in its directory nothing bounds how much it is together but
// the file system; it is its own, and goes with it.
TEST_P(HostileVmmTest, FillsAtMostItsOwnDirectory) {
    const auto outcomes = attempt("fill more 4\nfill /more 1\nfill ../b/more 1\n");
    EXPECT_EQ(outcomes.at("fill more 4"), GetParam() == vmm::Kind::qemu ? "EACCES" : "4 then ok");
    EXPECT_EQ(outcomes.at("fill /more 1"), "EROFS");
    EXPECT_EQ(outcomes.at("fill ../b/more 1"), "ENOENT");
}

// Memory, disk and some slack: what it writes when nobody has taken it over.
TEST_P(HostileVmmTest, MakesNoFileLargerThanItMayNeed) {
    const auto memory = std::to_string(machine("a").memory.count);
    const auto outcomes = attempt("extend more " + memory + "\nextend more 400\nextend rootfs.ext4 400\n");
    const bool makes_files = GetParam() == vmm::Kind::firecracker;
    EXPECT_EQ(outcomes.at("extend more " + memory), makes_files ? "ok" : "EACCES");
    EXPECT_EQ(outcomes.at("extend more 400"), makes_files ? "EFBIG" : "EACCES");
    EXPECT_EQ(outcomes.at("extend rootfs.ext4 400"), "EFBIG");
}

// Another user than the server, which has no privilege, removes a VM: also what its VMM has closed to it.
TEST_P(HostileVmmTest, LeavesNothingBehind) {
    if (GetParam() == vmm::Kind::qemu) {
        EXPECT_EQ(attempt("directory kept\n").at("directory kept"), "EACCES");
        return;
    }
    const auto outcomes = attempt(
        "directory kept\ndirectory kept/inside\nfill kept/file 1\nfill kept/inside/file 1\n"
        "link rootfs.ext4 kept/disk\nsymlink / kept/root\nsymlink ../b kept/neighbour\nfifo kept/fifo\n"
        "fifo fifo\nnest deep 1000\nclose kept/inside\nclose kept\nclose deep\n");
    for (const auto& [order, outcome] : outcomes) EXPECT_THAT(outcome, AnyOf("ok", "1 then ok", "")) << order;
    EXPECT_TRUE(outcomes.contains("done"));
    let_server_enter();
    EXPECT_FALSE(removes_as_server(vm("a"), Help::none)) << "there was nothing that takes root";
    EXPECT_TRUE(removes_as_server(vm("a"), Help::of_warden));
    EXPECT_FALSE(fs::exists(vm("a")));
    EXPECT_EQ(read_file(vm("b") / "rootfs.ext4", 64), "the disk of b");
}

// Wherever it has gone: nothing is taken from a VMM that runs.
TEST_P(HostileVmmTest, KeepsWhatItHasMadeAsLongAsItRuns) {
    if (GetParam() == vmm::Kind::qemu) GTEST_SKIP() << "QEMU makes nothing";
    for (const std::string place : {".", "kept", "/"}) {
        fs::remove_all(vm("b"));
        make_vm("b");
        std::array<int, 2> ends{};
        ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
        const Fd reader{ends[0]};
        auto process = start("b", "directory kept\ngo " + place + "\nstay\n", Fd{ends[1]});
        ASSERT_TRUE(process.pidfd);
        std::string text;
        for (char byte = 0; !text.contains("stay: ") && ::read(reader.get(), &byte, 1) == 1;) text += byte;
        ASSERT_THAT(text, testing::HasSubstr("go " + place + ": ok"));
        EXPECT_EQ(warden_->reclaim(vm("b")).error().code, Errc::conflict) << place;
        EXPECT_TRUE(fs::exists(vm("b") / "kept"));
        end(process);
        wait_for_end(process);
        process.held.reset();
        EXPECT_EQ(warden_->reclaim(vm("b")), vmm::Reclaimed::all);
        EXPECT_FALSE(fs::exists(vm("b") / "kept"));
    }
}

TEST_P(HostileVmmTest, HoldsNoMoreDescriptorsThanAllowed) {
    const auto outcomes = attempt("descriptors 100000\n");
    ASSERT_TRUE(outcomes.contains("descriptors 100000"));
    const auto& outcome = outcomes.at("descriptors 100000");
    EXPECT_THAT(outcome, EndsWith(" then EMFILE"));
    EXPECT_LE(std::stoi(outcome), 2048);
}

}  // namespace
}  // namespace noid::privileged
