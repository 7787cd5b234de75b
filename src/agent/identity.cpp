#include "agent/identity.hpp"

#include <fcntl.h>
#include <linux/random.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <ctime>

#include "agent/network.hpp"
#include "agent/ssh_host_keys.hpp"
#include "agent/text_file.hpp"
#include "base/fd.hpp"
#include "base/random.hpp"

namespace noid::agent {

namespace {

using namespace std::chrono_literals;

constexpr auto network_limit = 10s;
constexpr std::size_t max_hosts_bytes = 1024 * 1024;
constexpr std::size_t max_environment_bytes = 4 * 1024 * 1024;
constexpr auto state_directory = "/run/noid";
constexpr auto environment_file = "/run/noid/environment";
constexpr auto kernel_boot_id = "/proc/sys/kernel/random/boot_id";

bool is_letter_or_digit(char c) noexcept {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

Result<void> renew_entropy(const std::array<std::byte, 64>& entropy) {
    // struct rand_pool_info ends in a flexible array, which C++ does not have.
    struct {
        int bits = 8 * sizeof entropy;
        int bytes = sizeof entropy;
        std::array<std::byte, sizeof entropy> data;
    } pool;
    pool.data = entropy;
    const Fd device{::open("/dev/urandom", O_RDONLY | O_CLOEXEC)};
    if (!device) return fail_errno(errno, "/dev/urandom");
    const int added = ::ioctl(device.get(), RNDADDENTROPY, &pool);
    const int reason = errno;
    ::explicit_bzero(&pool, sizeof pool);
    if (added != 0) return fail_errno(reason, "add to the kernel's pool");
    // Without this the generator would go on with the key that it had when the snapshot was taken.
    if (::ioctl(device.get(), RNDRESEEDCRNG) != 0) return fail_errno(errno, "re-seed the kernel's generator");
    return {};
}

Result<void> step_clock(std::int64_t nanoseconds) {
    if (nanoseconds < 0) return fail(Errc::invalid, "time before 1970");
    const timespec time{.tv_sec = nanoseconds / 1'000'000'000, .tv_nsec = nanoseconds % 1'000'000'000};
    if (::clock_settime(CLOCK_REALTIME, &time) != 0) return fail_errno(errno, "set the clock");
    return {};
}

Result<void> renew_hostname(const std::string& hostname) {
    if (!is_hostname(hostname)) return fail(Errc::invalid, "not a host name");
    if (::sethostname(hostname.data(), hostname.size()) != 0) return fail_errno(errno, "set the host name");
    if (auto written = replace_text_file("/etc/hostname", hostname + "\n"); !written) return written;
    auto hosts = read_text_file("/etc/hosts", max_hosts_bytes);
    if (!hosts && hosts.error().code != Errc::not_found) return fail(hosts.error());
    return replace_text_file("/etc/hosts", hosts_with(hosts.value_or("127.0.0.1\tlocalhost\n"), hostname));
}

Result<void> renew_machine_id(const std::string& id) {
    if (!is_machine_id(id)) return fail(Errc::invalid, "not a machine id");
    if (auto written = replace_text_file("/etc/machine-id", id + "\n"); !written) return written;
    // Usually a link to the first; an older image has a file of its own.
    constexpr auto dbus_file = "/var/lib/dbus/machine-id";
    struct stat status {};
    if (::lstat(dbus_file, &status) != 0 || !S_ISREG(status.st_mode)) return {};
    return replace_text_file(dbus_file, id + "\n");
}

Result<void> make_state_directory() {
    if (::mkdir(state_directory, 0700) != 0 && errno != EEXIST) return fail_errno(errno, state_directory);
    return {};
}

// The kernel's boot id cannot be set, so a file is mounted over it; later ones are written into
// that file.
Result<void> renew_boot_id() {
    const std::string id = random_uuid() + "\n";
    struct stat directory {};
    struct stat file {};
    if (::stat("/proc/sys/kernel/random", &directory) != 0 || ::stat(kernel_boot_id, &file) != 0) {
        return fail_errno(errno, kernel_boot_id);
    }
    if (directory.st_dev != file.st_dev) return write_kernel_file(kernel_boot_id, id);

    const std::string own = std::string{state_directory} + "/boot_id";
    if (auto made = make_state_directory(); !made) return made;
    if (auto written = replace_text_file(own, id); !written) return written;
    if (::mount(own.c_str(), kernel_boot_id, nullptr, MS_BIND, nullptr) != 0) {
        return fail_errno(errno, std::string{"mount over "} + kernel_boot_id);
    }
    return {};
}

}  // namespace

Result<void> renew_identity(const proto::Identity& identity) {
    // Entropy is first because everything random that follows depends on it.
    if (auto done = renew_entropy(identity.entropy); !done)
        return fail(std::move(done.error()).at("renew entropy"));
    if (identity.clock_ns != 0) {
        if (auto done = step_clock(identity.clock_ns); !done)
            return fail(std::move(done.error()).at("renew clock"));
    }
    if (identity.network) {
        if (auto done = configure_network(*identity.network, network_limit); !done) {
            return fail(std::move(done.error()).at("renew network"));
        }
    }
    if (!identity.hostname.empty()) {
        if (auto done = renew_hostname(identity.hostname); !done) {
            return fail(std::move(done.error()).at("renew host name"));
        }
    }
    if (!identity.machine_id.empty()) {
        if (auto done = renew_machine_id(identity.machine_id); !done) {
            return fail(std::move(done.error()).at("renew machine id"));
        }
    }
    if (identity.new_boot_id) {
        if (auto done = renew_boot_id(); !done) return fail(std::move(done.error()).at("renew boot id"));
    }
    if (identity.renew_ssh_host_keys) {
        if (auto done = renew_ssh_host_keys("/etc/ssh"); !done) {
            return fail(std::move(done.error()).at("renew SSH host keys"));
        }
    }
    return {};
}

Result<void> save_machine_environment(const std::vector<std::string>& environment) {
    std::string text;
    for (const auto& entry : environment) text.append(entry).push_back('\0');
    if (auto made = make_state_directory(); !made) return made;
    return replace_text_file(environment_file, text);
}

std::vector<std::string> load_machine_environment() {
    std::vector<std::string> environment;
    const auto text = read_text_file(environment_file, max_environment_bytes);
    if (!text) return environment;
    for (std::string_view rest = *text; !rest.empty();) {
        const auto entry = rest.substr(0, rest.find('\0'));
        environment.emplace_back(entry);
        rest.remove_prefix(std::min(rest.size(), entry.size() + 1));
    }
    return environment;
}

std::string hosts_with(std::string_view hosts, std::string_view hostname) {
    constexpr std::string_view address = "127.0.1.1";
    std::string own_line{address};
    own_line.append("\t").append(hostname);
    // A qualified name is reached by its first part, too.
    if (const auto dot = hostname.find('.'); dot != std::string_view::npos) {
        own_line.append(" ").append(hostname.substr(0, dot));
    }
    own_line.push_back('\n');

    std::string result;
    bool is_placed = false;
    while (!hosts.empty()) {
        const auto line = hosts.substr(0, hosts.find('\n'));
        hosts.remove_prefix(std::min(hosts.size(), line.size() + 1));
        const auto begin = std::min(line.find_first_not_of(" \t"), line.size());
        const auto first = line.substr(begin, line.find_first_of(" \t", begin) - begin);
        if (first != address) {
            result.append(line).push_back('\n');
        } else if (!is_placed) {
            result += own_line;
            is_placed = true;
        }
    }
    return is_placed ? result : result + own_line;
}

bool is_hostname(std::string_view text) noexcept {
    if (text.empty() || text.size() > 64) return false;
    const auto is_edge = [](char c) { return c == '.' || c == '-'; };
    if (is_edge(text.front()) || is_edge(text.back())) return false;
    return std::ranges::all_of(
        text, [](char c) { return is_letter_or_digit(c) || c == '.' || c == '-' || c == '_'; });
}

bool is_machine_id(std::string_view text) noexcept {
    constexpr std::size_t digits = 32;
    return text.size() == digits && text.find_first_not_of("0123456789abcdef") == std::string_view::npos &&
           text.find_first_not_of('0') != std::string_view::npos;
}

}  // namespace noid::agent
