// Stands in the place of a VMM that its guest has taken over. It looks at no argument, reads its orders from
// the file "orders" in its working directory, one attempt a line, and writes to its standard output what came
// of each: "<order>: ok", "<order>: <name of the error>" or, where it counts, "<order>: <number> then
// <error>".
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/btrfs.h>
#include <linux/capability.h>
#include <linux/perf_event.h>
#include <linux/userfaultfd.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

namespace {

using Words = std::vector<std::string>;

std::string outcome(long result) {
    if (result >= 0) return "ok";
    const char* name = ::strerrorname_np(errno);
    return name != nullptr ? name : std::to_string(errno);
}

std::string opened(const std::string& path, int flags, mode_t mode = 0600) {
    const int file = ::open(path.c_str(), flags | O_CLOEXEC, mode);
    const auto text = outcome(file);
    if (file >= 0) ::close(file);
    return text;
}

std::string connected(int family, int type, const sockaddr* address, socklen_t size) {
    const int connection = ::socket(family, type | SOCK_CLOEXEC, 0);
    if (connection < 0) return outcome(-1);
    const auto text = outcome(::connect(connection, address, size));
    ::close(connection);
    return text;
}

std::string connect_ip(const std::string& host, int port, int type) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    ::inet_pton(AF_INET, host.c_str(), &address.sin_addr);
    return connected(AF_INET, type, reinterpret_cast<const sockaddr*>(&address), sizeof address);
}

std::string connect_unix(const std::string& name, bool is_abstract) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::size_t at = is_abstract ? 1 : 0;
    std::memcpy(address.sun_path + at, name.data(), std::min(name.size(), sizeof address.sun_path - at - 1));
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + at + name.size());
    return connected(AF_UNIX, SOCK_STREAM, reinterpret_cast<const sockaddr*>(&address), size);
}

std::string connect_vsock(unsigned cid, unsigned port) {
    sockaddr_vm address{};
    address.svm_family = AF_VSOCK;
    address.svm_cid = cid;
    address.svm_port = port;
    return connected(AF_VSOCK, SOCK_STREAM, reinterpret_cast<const sockaddr*>(&address), sizeof address);
}

// Bytes out of another process's memory.
std::string peek(pid_t process) {
    std::array<char, 8> bytes{};
    iovec mine{bytes.data(), bytes.size()};
    iovec its{reinterpret_cast<void*>(0x400000), bytes.size()};
    return outcome(::process_vm_readv(process, &mine, 1, &its, 1, 0));
}

// In a child, so that what works does not change what comes after.
std::string in_child(const std::function<std::string()>& attempt) {
    std::array<int, 2> ends{};
    if (::pipe(ends.data()) != 0) return "no pipe";
    const pid_t child = ::fork();
    if (child == 0) {
        const auto text = attempt();
        [[maybe_unused]] const auto written = ::write(ends[1], text.data(), text.size());
        ::_exit(0);
    }
    ::close(ends[1]);
    if (child < 0) {
        ::close(ends[0]);
        return "no child: " + outcome(-1);
    }
    std::array<char, 128> text{};
    const auto size = ::read(ends[0], text.data(), text.size());
    ::close(ends[0]);
    int status = 0;
    ::waitpid(child, &status, 0);
    if (WIFSIGNALED(status)) return "killed by " + std::to_string(WTERMSIG(status));
    return {text.data(), size > 0 ? static_cast<std::size_t>(size) : 0};
}

// The classical way out of a chroot: into another one with the old working directory still open.
std::string leave_root() {
    if (::chroot("/dev") != 0) return outcome(-1);
    for (int i = 0; i < 64; ++i) {
        if (::chdir("..") != 0) return outcome(-1);
    }
    return outcome(::chroot("."));
}

std::string by_handle(const std::string& start) {
    // The handle of the root of an ext4: inode 2, generation 0. A number is all that it takes.
    constexpr std::array<unsigned, 2> root{2, 0};
    alignas(file_handle) std::array<char, sizeof(file_handle) + sizeof root> room{};
    auto* const handle = reinterpret_cast<file_handle*>(room.data());
    handle->handle_bytes = sizeof root;
    handle->handle_type = 1;
    std::memcpy(handle->f_handle, root.data(), sizeof root);
    const int mount = ::open(start.c_str(), O_RDONLY | O_DIRECTORY);
    return outcome(::open_by_handle_at(mount, handle, O_RDONLY));
}

std::string all_capabilities() {
    __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> sets{};
    for (auto& set : sets) set.effective = set.permitted = ~0U;
    return outcome(::syscall(SYS_capset, &header, sets.data()));
}

// How many processes with a number up to `last` a signal could reach, itself left out.
std::string within_reach(pid_t last) {
    int count = 0;
    for (pid_t process = 1; process <= last; ++process) {
        if (process != ::getpid() && ::kill(process, 0) == 0) ++count;
    }
    return std::to_string(count);
}

std::string fork_bomb(int limit) {
    std::vector<pid_t> children;
    std::string end = "ok";
    while (static_cast<int>(children.size()) < limit) {
        const pid_t child = ::fork();
        if (child == 0) {
            ::pause();
            ::_exit(0);
        }
        if (child < 0) {
            end = outcome(-1);
            break;
        }
        children.push_back(child);
    }
    const auto count = children.size();
    for (const auto child : children) {
        ::kill(child, SIGKILL);
        ::waitpid(child, nullptr, 0);
    }
    return std::to_string(count) + " then " + end;
}

std::string fill_descriptors(int limit) {
    std::vector<int> files;
    std::string end = "ok";
    while (static_cast<int>(files.size()) < limit) {
        const int file = ::dup(1);
        if (file < 0) {
            end = outcome(-1);
            break;
        }
        files.push_back(file);
    }
    for (const int file : files) ::close(file);
    return std::to_string(files.size()) + " then " + end;
}

std::string fill_memory(std::size_t mib) {
    const std::size_t size = mib << 20;
    void* memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return outcome(-1);
    std::memset(memory, 1, size);
    return "ok";
}

std::string fill_file(const std::string& name, std::size_t mib) {
    ::signal(SIGXFSZ, SIG_IGN);
    const int file = ::open(name.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0) return outcome(-1);
    const std::string piece(1 << 20, 'x');
    std::size_t written = 0;
    std::string end = "ok";
    while (written < mib && end == "ok") {
        if (::write(file, piece.data(), piece.size()) != static_cast<ssize_t>(piece.size()))
            end = outcome(-1);
        else
            ++written;
    }
    ::close(file);
    return std::to_string(written) + " then " + end;
}

std::string extend_file(const std::string& name, std::size_t mib) {
    ::signal(SIGXFSZ, SIG_IGN);
    const int file = ::open(name.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0) return outcome(-1);
    const auto text = outcome(::ftruncate(file, static_cast<off_t>(mib << 20)));
    ::close(file);
    return text;
}

// Directories in each other that only this user may enter, with a file in each.
std::string nest(const std::string& name, int depth) {
    int place = ::open(".", O_PATH | O_CLOEXEC);
    long result = 0;
    for (int i = 0; i < depth && result >= 0; ++i) {
        result = ::mkdirat(place, name.c_str(), 0700);
        const int inside = ::openat(place, name.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (result >= 0) result = ::close(::openat(inside, "file", O_WRONLY | O_CREAT | O_CLOEXEC, 0));
        ::close(place);
        place = inside;
    }
    return outcome(result);
}

std::string kernel_call(const std::string& name) {
    bpf_attr attributes{};
    attributes.map_type = BPF_MAP_TYPE_ARRAY;
    attributes.key_size = attributes.value_size = attributes.max_entries = 4;
    perf_event_attr event{};
    event.size = sizeof event;
    std::array<char, 256> ring{};
    timespec now{};
    if (name == "bpf") return outcome(::syscall(SYS_bpf, BPF_MAP_CREATE, &attributes, sizeof attributes));
    if (name == "perf") return outcome(::syscall(SYS_perf_event_open, &event, 0, -1, -1, 0));
    if (name == "keys") return outcome(::syscall(SYS_add_key, "user", "noid", "x", 1, -4));
    if (name == "userfaultfd") return outcome(::syscall(SYS_userfaultfd, 0));
    if (name == "userfaultfd-of-own") return outcome(::syscall(SYS_userfaultfd, UFFD_USER_MODE_ONLY));
    if (name == "io_uring") return outcome(::syscall(SYS_io_uring_setup, 4, ring.data()));
    if (name == "module") return outcome(::syscall(SYS_init_module, ring.data(), 1UL, ""));
    if (name == "kexec") return outcome(::syscall(SYS_kexec_load, 0UL, 0UL, nullptr, 0UL));
    if (name == "subvolume") return outcome(::ioctl(0, BTRFS_IOC_SUBVOL_CREATE, ring.data()));
    if (name == "read-only") return outcome(::ioctl(0, BTRFS_IOC_SUBVOL_SETFLAGS, ring.data()));
    if (name == "reboot") return outcome(::syscall(SYS_reboot, 0xfee1dead, 672274793, 0, nullptr));
    if (name == "host-name") return outcome(::sethostname("taken", 5));
    if (name == "clock") return outcome(::clock_settime(CLOCK_REALTIME, &now));
    if (name == "priority") return outcome(::setpriority(PRIO_PROCESS, 0, -10));
    if (name == "open-files") {
        const rlimit more{1 << 20, 1 << 20};
        return outcome(::setrlimit(RLIMIT_NOFILE, &more));
    }
    return "unknown";
}

int namespace_named(const std::string& name) {
    static const std::map<std::string, int> flags{{"user", CLONE_NEWUSER},
                                                  {"net", CLONE_NEWNET},
                                                  {"mounts", CLONE_NEWNS},
                                                  {"pids", CLONE_NEWPID},
                                                  {"both", CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET}};
    const auto found = flags.find(name);
    return found == flags.end() ? 0 : found->second;
}

using Attempt = std::function<std::string(const Words&)>;

int number(const std::string& word) {
    return std::atoi(word.c_str());
}

const std::map<std::string, Attempt>& attempts() {
    static const std::map<std::string, Attempt> all{
        // files
        {"read", [](const Words& w) { return opened(w[1], O_RDONLY); }},
        {"write", [](const Words& w) { return opened(w[1], O_WRONLY); }},
        {"truncate", [](const Words& w) { return outcome(::truncate(w[1].c_str(), 0)); }},
        {"create", [](const Words& w) { return opened(w[1], O_WRONLY | O_CREAT | O_EXCL); }},
        {"remove", [](const Words& w) { return outcome(::unlink(w[1].c_str())); }},
        {"rename", [](const Words& w) { return outcome(::rename(w[1].c_str(), w[2].c_str())); }},
        {"link", [](const Words& w) { return outcome(::link(w[1].c_str(), w[2].c_str())); }},
        {"directory", [](const Words& w) { return outcome(::mkdir(w[1].c_str(), 0700)); }},
        {"nest", [](const Words& w) { return nest(w[1], number(w[2])); }},
        {"symlink", [](const Words& w) { return outcome(::symlink(w[1].c_str(), w[2].c_str())); }},
        {"fifo", [](const Words& w) { return outcome(::mkfifo(w[1].c_str(), 0)); }},
        {"close", [](const Words& w) { return outcome(::chmod(w[1].c_str(), 0)); }},
        {"go", [](const Words& w) { return outcome(::chdir(w[1].c_str())); }},
        {"let-all", [](const Words& w) { return outcome(::chmod(w[1].c_str(), 0666)); }},
        {"take", [](const Words& w) { return outcome(::chown(w[1].c_str(), ::getuid(), ::getgid())); }},
        {"map-shared",
         [](const Words& w) {
             const int file = ::open(w[1].c_str(), O_RDONLY | O_CLOEXEC);
             if (file < 0) return outcome(-1);
             void* memory = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
             return outcome(memory == MAP_FAILED ? -1 : 0);
         }},
        {"by-handle", [](const Words& w) { return by_handle(w[1]); }},
        // other processes
        {"signal", [](const Words& w) { return outcome(::kill(number(w[1]), 0)); }},
        {"signal-all", [](const Words&) { return outcome(::kill(-1, 0)); }},
        {"within-reach", [](const Words& w) { return within_reach(number(w[1])); }},
        {"trace",
         [](const Words& w) { return outcome(::ptrace(PTRACE_ATTACH, number(w[1]), nullptr, nullptr)); }},
        {"peek", [](const Words& w) { return peek(number(w[1])); }},
        {"hold", [](const Words& w) { return outcome(::syscall(SYS_pidfd_open, number(w[1]), 0)); }},
        {"slow-down",
         [](const Words& w) {
             return outcome(::setpriority(PRIO_PROCESS, static_cast<id_t>(number(w[1])), 19));
         }},
        {"limit",
         [](const Words& w) {
             rlimit none{};
             return outcome(::prlimit(number(w[1]), RLIMIT_CPU, nullptr, &none));
         }},
        {"shared-memory", [](const Words& w) { return outcome(::shmget(number(w[1]), 0, 0)); }},
        // the network
        {"tcp", [](const Words& w) { return connect_ip(w[1], number(w[2]), SOCK_STREAM); }},
        {"udp", [](const Words& w) { return connect_ip(w[1], number(w[2]), SOCK_DGRAM); }},
        {"unix", [](const Words& w) { return connect_unix(w[1], false); }},
        {"abstract", [](const Words& w) { return connect_unix(w[1], true); }},
        {"vsock",
         [](const Words& w) {
             return connect_vsock(static_cast<unsigned>(number(w[1])), static_cast<unsigned>(number(w[2])));
         }},
        {"raw", [](const Words&) { return outcome(::socket(AF_INET, SOCK_RAW, IPPROTO_ICMP)); }},
        {"packet", [](const Words&) { return outcome(::socket(AF_PACKET, SOCK_RAW, 0)); }},
        {"netlink", [](const Words&) { return outcome(::socket(AF_NETLINK, SOCK_RAW, 0)); }},
        {"loopback-up",
         [](const Words&) {
             ifreq request{};
             std::strcpy(request.ifr_name, "lo");
             request.ifr_flags = IFF_UP;
             return outcome(::ioctl(::socket(AF_INET, SOCK_DGRAM, 0), SIOCSIFFLAGS, &request));
         }},
        // rights
        {"unshare",
         [](const Words& w) { return in_child([&] { return outcome(::unshare(namespace_named(w[1]))); }); }},
        {"clone",
         [](const Words& w) {
             const long child =
                 ::syscall(SYS_clone, namespace_named(w[1]) | SIGCHLD, nullptr, nullptr, nullptr, 0L);
             if (child == 0) ::_exit(0);
             return outcome(child);
         }},
        {"become-root", [](const Words&) { return outcome(::setresuid(0, 0, 0)); }},
        {"all-capabilities", [](const Words&) { return all_capabilities(); }},
        {"mount", [](const Words&) { return outcome(::mount("none", ".", "tmpfs", 0, nullptr)); }},
        {"remount",
         [](const Words&) { return outcome(::mount(nullptr, "/", nullptr, MS_REMOUNT | MS_BIND, nullptr)); }},
        {"unmount", [](const Words&) { return outcome(::umount2("/", MNT_DETACH)); }},
        {"make-disk", [](const Words&) { return outcome(::mknod("disk", S_IFBLK | 0600, 8 << 8)); }},
        {"leave-root", [](const Words&) { return in_child(leave_root); }},
        {"kernel", [](const Words& w) { return kernel_call(w[1]); }},
        // what is everybody's
        {"forks", [](const Words& w) { return fork_bomb(number(w[1])); }},
        {"descriptors", [](const Words& w) { return fill_descriptors(number(w[1])); }},
        {"memory", [](const Words& w) { return fill_memory(static_cast<std::size_t>(number(w[1]))); }},
        {"extend", [](const Words& w) { return extend_file(w[1], static_cast<std::size_t>(number(w[2]))); }},
        {"fill", [](const Words& w) { return fill_file(w[1], static_cast<std::size_t>(number(w[2]))); }},
        // to be there for others to try at
        {"stay", [](const Words&) { return outcome(::pause()); }},
    };
    return all;
}

}  // namespace

int main() {
    std::ifstream orders{"orders"};
    for (std::string order; std::getline(orders, order);) {
        std::istringstream text{order};
        Words words;
        for (std::string word; text >> word;) words.push_back(std::move(word));
        if (words.empty()) continue;
        words.resize(std::max<std::size_t>(words.size(), 3));
        const auto attempt = attempts().find(words[0]);
        std::cout << order << ": " << std::flush;
        std::cout << (attempt == attempts().end() ? "unknown order" : attempt->second(words)) << std::endl;
    }
    std::cout << "done" << std::endl;
}
