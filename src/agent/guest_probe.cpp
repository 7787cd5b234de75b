// Stands in for the agent in tests of the guest's boot: the same boot code, but what it then does is
// to carry out lines that a test sends over the virtio-serial port "noid.agent".
//
//   sh COMMAND          runs it by the image's shell
//   identity K=V ...    renew_identity with hostname, machine_id, clock_ns, mac, address, gateway,
//                       mtu, nameserver, entropy (one byte, repeated), boot_id=1, ssh=1
//   power-off           request_power_off
//   crash               dies of a signal
//
// Each is answered by "STATUS LENGTH\n" and LENGTH bytes of output.

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "agent/boot.hpp"
#include "agent/device_events.hpp"
#include "agent/identity.hpp"
#include "agent/power.hpp"

namespace {

using namespace noid;
using namespace std::chrono_literals;

struct Answer {
    int status = 0;
    std::string output;
};

Answer answer(const Result<void>& result) {
    if (result) return {};
    return {1, result.error().what};
}

Answer run_in_shell(const std::string& command) {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return {-1, "pipe"};
    const Fd output{ends[0]};
    Fd writer{ends[1]};
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, writer.get(), STDOUT_FILENO);
    ::posix_spawn_file_actions_adddup2(&actions, writer.get(), STDERR_FILENO);
    std::string text = command;
    std::array<char*, 4> argv{const_cast<char*>("sh"), const_cast<char*>("-c"), text.data(), nullptr};
    std::array<char*, 2> environment{const_cast<char*>("PATH=/usr/sbin:/usr/bin:/sbin:/bin"), nullptr};
    pid_t pid = -1;
    const int error = ::posix_spawn(&pid, "/bin/sh", &actions, nullptr, argv.data(), environment.data());
    ::posix_spawn_file_actions_destroy(&actions);
    if (error != 0) return {127, "no shell"};
    writer.reset();

    Answer result;
    std::array<char, 4096> buffer;
    while (true) {
        const ssize_t size = ::read(output.get(), buffer.data(), buffer.size());
        if (size <= 0) break;
        result.output.append(buffer.data(), static_cast<std::size_t>(size));
    }
    int status = 0;
    ::waitpid(pid, &status, 0);
    result.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return result;
}

proto::Identity parse_identity(const std::string& words) {
    proto::Identity identity;
    proto::GuestNetwork network;
    std::istringstream stream{words};
    for (std::string word; stream >> word;) {
        const auto key = word.substr(0, word.find('='));
        const auto value = word.substr(key.size() + 1);
        if (key == "hostname") identity.hostname = value;
        if (key == "machine_id") identity.machine_id = value;
        if (key == "clock_ns") identity.clock_ns = std::stoll(value);
        if (key == "entropy") identity.entropy.fill(static_cast<std::byte>(value[0]));
        if (key == "boot_id") identity.new_boot_id = true;
        if (key == "ssh") identity.renew_ssh_host_keys = true;
        if (key == "mac") network.mac = value;
        if (key == "address") network.address = value;
        if (key == "gateway") network.gateway = value;
        if (key == "mtu") network.mtu = static_cast<std::uint32_t>(std::stoul(value));
        if (key == "nameserver") network.nameservers.push_back(value);
    }
    if (!network.address.empty()) identity.network = network;
    return identity;
}

Answer carry_out(const std::string& line) {
    const auto verb = line.substr(0, line.find(' '));
    const auto rest = line.substr(std::min(line.size(), verb.size() + 1));
    if (verb == "sh") return run_in_shell(rest);
    if (verb == "identity") return answer(agent::renew_identity(parse_identity(rest)));
    if (verb == "power-off") return answer(agent::request_power_off());
    if (verb == "crash") std::abort();
    return {2, "unknown: " + line};
}

std::string find_port() {
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator{"/sys/class/virtio-ports", error}) {
        std::string name;
        std::getline(std::ifstream{entry.path() / "name"}, name);
        if (name == proto::virtio_port_name) return "/dev/" + entry.path().filename().string();
    }
    return {};
}

// The port takes at most 32 KiB at once.
bool write_whole(int port, std::string_view text) {
    while (!text.empty()) {
        const ssize_t size = ::write(port, text.data(), text.size());
        if (size <= 0) return false;
        text.remove_prefix(static_cast<std::size_t>(size));
    }
    return true;
}

int serve_port() {
    auto events = agent::DeviceEvents::open();
    std::string path;
    if (!events || !events->wait_until([&] { return !(path = find_port()).empty(); }, 20s)) return 1;
    const Fd port{::open(path.c_str(), O_RDWR | O_CLOEXEC)};
    if (!port || ::write(port.get(), "0 0\n", 4) != 4) return 1;
    std::string pending;
    std::array<char, 4096> buffer;
    while (true) {
        const ssize_t size = ::read(port.get(), buffer.data(), buffer.size());
        if (size <= 0) return 1;
        pending.append(buffer.data(), static_cast<std::size_t>(size));
        for (auto end = pending.find('\n'); end != std::string::npos; end = pending.find('\n')) {
            const auto [status, output] = carry_out(pending.substr(0, end));
            pending.erase(0, end + 1);
            const std::string reply =
                std::to_string(status) + " " + std::to_string(output.size()) + "\n" + output;
            if (!write_whole(port.get(), reply)) return 1;
        }
    }
}

}  // namespace

int main() {
    if (::getpid() != 1) return 2;
    noid::agent::run_as_first_process(&serve_port);
}
