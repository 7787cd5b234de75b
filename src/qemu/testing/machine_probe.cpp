// The only program of the test guest: /init of its initrd. Loads the kernel modules, says "probe ready" on
// the console, and obeys one-line commands at the agent's port, each with a one-line answer.
#include <dirent.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

namespace {

std::atomic<std::uint64_t> ticks{0};
std::vector<std::uint64_t> ballast;

// Each line of /modules/order: stage, file, condition. All are loaded; for a missing device that is harmless.
void load_modules() {
    FILE* order = std::fopen("/modules/order", "r");
    if (order == nullptr) return;
    std::array<char, 64> stage{};
    std::array<char, 128> file{};
    std::array<char, 64> condition{};
    while (std::fscanf(order, "%63s %127s %63s", stage.data(), file.data(), condition.data()) == 3) {
        const std::string path = std::string{"/modules/"} + file.data();
        const int module = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
        if (module < 0) continue;
        ::syscall(SYS_finit_module, module, "", 0);
        ::close(module);
    }
    std::fclose(order);
}

bool has_serial_device() {
    constexpr int console = 3;  // the virtio specification's number of the kind
    DIR* devices = ::opendir("/sys/bus/virtio/devices");
    if (devices == nullptr) return false;
    bool found = false;
    while (const dirent* entry = ::readdir(devices)) {
        const auto path = std::string{"/sys/bus/virtio/devices/"} + entry->d_name + "/device";
        FILE* file = std::fopen(path.c_str(), "r");
        if (file == nullptr) continue;
        int kind = 0;
        if (std::fscanf(file, "%i", &kind) == 1 && kind == console) found = true;
        std::fclose(file);
    }
    ::closedir(devices);
    return found;
}

// The port's node, which the kernel makes some time after its driver was loaded. Empty: there is no device
// that could have one.
std::string await_port() {
    if (!has_serial_device()) return {};
    const int watch = ::inotify_init1(IN_CLOEXEC);
    ::inotify_add_watch(watch, "/dev", IN_CREATE);
    while (true) {
        DIR* nodes = ::opendir("/dev");
        std::string path;
        while (const dirent* entry = ::readdir(nodes))
            if (std::strncmp(entry->d_name, "vport", 5) == 0) path = std::string{"/dev/"} + entry->d_name;
        ::closedir(nodes);
        if (!path.empty()) return path;
        std::array<char, 4096> events{};
        [[maybe_unused]] const auto woken = ::read(watch, events.data(), events.size());
    }
}

// Numbers that depend on position and seed: changed, lost or swapped pages show.
std::uint64_t pattern(std::uint64_t position, std::uint64_t seed) {
    std::uint64_t x = position * 0x9e3779b97f4a7c15U + seed;
    x ^= x >> 29;
    return x * 0xbf58476d1ce4e5b9U;
}

std::string answer(const std::string& line) {
    std::array<char, 32> word{};
    unsigned long long first = 0;
    unsigned long long second = 0;
    std::sscanf(line.c_str(), "%31s %llu %llu", word.data(), &first, &second);
    const std::string command{word.data()};
    if (command == "ticks") return std::to_string(ticks.load());
    if (command == "fill") {  // fill MiB SEED: dirties that much memory from the beginning
        const std::size_t count = first << 17;
        if (ballast.size() < count) ballast.resize(count);
        for (std::size_t i = 0; i < count; ++i) ballast[i] = pattern(i, second);
        return "filled";
    }
    if (command == "check") {  // check MiB SEED
        const std::size_t count = first << 17;
        if (ballast.size() < count) return "too small";
        for (std::size_t i = 0; i < count; ++i)
            if (ballast[i] != pattern(i, second)) return "differs at " + std::to_string(i);
        return "same";
    }
    if (command == "write" || command == "read") {  // one block of the disk
        const int disk = ::open("/dev/vda", O_RDWR | O_CLOEXEC | O_SYNC);
        std::array<std::uint64_t, 512> block{};
        block.fill(first);
        const ssize_t done = command == "write" ? ::pwrite(disk, block.data(), sizeof block, 0)
                                                : ::pread(disk, block.data(), sizeof block, 0);
        ::close(disk);
        return done == static_cast<ssize_t>(sizeof block) ? std::to_string(block[511]) : "failed";
    }
    if (command == "say") {
        std::printf("%s\n", line.c_str() + 4);
        std::fflush(stdout);
        return "said";
    }
    if (command == "shutdown") ::reboot(RB_POWER_OFF);
    if (command == "reboot") ::reboot(RB_AUTOBOOT);
    return "echo " + line;
}

// Where there is no virtio-serial port, which is under Firecracker, the agent's port is a vsock's.
int listen_on_vsock() {
    const int listener = ::socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_vm address{};
    address.svm_family = AF_VSOCK;
    address.svm_cid = VMADDR_CID_ANY;
    address.svm_port = 1024;
    if (::bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(listener, 1) != 0)
        return -1;
    return listener;
}

// A host that connects anew has given up its connection before, or a snapshot has closed it.
[[noreturn]] void serve_vsock(int listener) {
    while (true) {
        const int connection = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
        std::string line;
        char byte = 0;
        while (::read(connection, &byte, 1) == 1) {
            if (byte != '\n') {
                line.push_back(byte);
                continue;
            }
            const std::string text = answer(line) + "\n";
            if (::write(connection, text.data(), text.size()) < 0) break;
            line.clear();
        }
        ::close(connection);
    }
}

[[noreturn]] void serve(int port) {
    std::string line;
    while (true) {
        char byte = 0;
        if (::read(port, &byte, 1) != 1) {
            // Nobody is connected; the kernel's driver has no event for the moment when somebody is.
            ::usleep(5000);
            line.clear();
            continue;
        }
        if (byte != '\n') {
            line.push_back(byte);
            continue;
        }
        const std::string text = answer(line) + "\n";
        [[maybe_unused]] const auto sent = ::write(port, text.data(), text.size());
        line.clear();
    }
}

}  // namespace

int main() {
    ::mount("devtmpfs", "/dev", "devtmpfs", 0, nullptr);
    ::mount("proc", "/proc", "proc", 0, nullptr);
    ::mount("sysfs", "/sys", "sysfs", 0, nullptr);
    load_modules();
    std::thread{[] {
        while (true) {
            ::usleep(1000);
            ++ticks;
        }
    }}.detach();
    const std::string path = await_port();
    const int port = path.empty() ? listen_on_vsock() : ::open(path.c_str(), O_RDWR | O_CLOEXEC);
    std::printf("probe ready, port %s\n", port < 0 ? std::strerror(errno) : "open");
    std::fflush(stdout);
    if (path.empty()) serve_vsock(port);
    serve(port);
}
