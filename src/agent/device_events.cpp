#include "agent/device_events.hpp"

#include <fcntl.h>
#include <linux/netlink.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace noid::agent {

Result<DeviceEvents> DeviceEvents::open() {
    Fd socket{::socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT)};
    if (!socket) return fail_errno(errno, "listen to device events");
    sockaddr_nl address{};
    address.nl_family = AF_NETLINK;
    address.nl_groups = 1;  // the kernel's own events; udev's are group 2
    if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        return fail_errno(errno, "listen to device events");
    }
    return DeviceEvents{std::move(socket)};
}

Result<void> DeviceEvents::wait_until(const std::function<bool()>& done, std::chrono::milliseconds limit) {
    using Clock = std::chrono::steady_clock;
    const auto deadline = Clock::now() + limit;
    while (!done()) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
        pollfd waiting{socket_.get(), POLLIN, 0};
        const int ready = ::poll(&waiting, 1, static_cast<int>(std::max<std::int64_t>(left.count(), 0)));
        if (ready < 0 && errno != EINTR) return fail_errno(errno, "wait for a device");
        if (ready == 0) return fail(Errc::timed_out, "the device did not appear");
        // What the events say does not matter: any of them may be the one. ENOBUFS, events lost,
        // is a reason to look, too.
        std::array<char, 4096> event;
        while (::recv(socket_.get(), event.data(), event.size(), 0) > 0) {
        }
    }
    return {};
}

Result<Fd> DeviceEvents::wait_for_block_device(const std::string& path, std::chrono::milliseconds limit) {
    Fd device;
    int reason = 0;
    const auto settled = wait_until(
        [&] {
            device.reset(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
            reason = device ? 0 : errno;
            // A node without its driver gives ENXIO or ENODEV; its driver may still come.
            return device || (reason != ENOENT && reason != ENXIO && reason != ENODEV);
        },
        limit);
    if (!settled && settled.error().code == Errc::timed_out) {
        return fail(Errc::timed_out, "there is no disk " + path);
    }
    if (!settled) return fail(settled.error());
    if (!device) return fail_errno(reason, path);
    struct stat status {};
    if (::fstat(device.get(), &status) != 0) return fail_errno(errno, path);
    if (!S_ISBLK(status.st_mode)) return fail(Errc::invalid, path + " is no block device");
    return device;
}

}  // namespace noid::agent
