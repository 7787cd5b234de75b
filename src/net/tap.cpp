#include "net/tap.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <cstring>

#include "base/file.hpp"

namespace noid::net {

namespace {

// In the words that clients of the original know.
std::unexpected<Error> ioctl_failure(const char* request, const std::string& name) {
    const int error = errno;
    auto failure = fail_errno(error, "");
    failure.error().what =
        fmt::format("{} failed for {}: {} (os error {})", request, name, std::strerror(error), error);
    if (error == EBUSY) failure.error().code = Errc::conflict;
    return failure;
}

// An open TAP: while the descriptor lives, nobody else can open it.
Result<Fd> attach(const std::string& name, std::optional<int> number) {
    auto device = open_file("/dev/net/tun", O_RDWR);
    if (!device) return device;
    if (number && ::ioctl(device->get(), TUNSETIFINDEX, &*number) != 0)
        return ioctl_failure("TUNSETIFINDEX", name);
    ifreq request{};
    if (name.size() >= sizeof request.ifr_name) return fail(Errc::invalid, "device name too long: " + name);
    std::memcpy(request.ifr_name, name.c_str(), name.size() + 1);
    request.ifr_flags = IFF_TAP | IFF_NO_PI;
    if (::ioctl(device->get(), TUNSETIFF, &request) != 0) return ioctl_failure("TUNSETIFF", name);
    return device;
}

}  // namespace

Result<void> make_tap(const std::string& name, std::optional<uid_t> owner, std::optional<int> number) {
    const auto device = attach(name, number);
    if (!device) return fail(device.error());
    if (owner && ::ioctl(device->get(), TUNSETOWNER, static_cast<unsigned long>(*owner)) != 0)
        return ioctl_failure("TUNSETOWNER", name);
    if (::ioctl(device->get(), TUNSETPERSIST, 1) != 0) return ioctl_failure("TUNSETPERSIST", name);
    return {};
}

Result<void> remove_idle_tap(const std::string& name) {
    if (::if_nametoindex(name.c_str()) == 0) return {};
    const auto device = attach(name, std::nullopt);
    if (!device) return fail(device.error());
    if (::ioctl(device->get(), TUNSETPERSIST, 0) != 0) return ioctl_failure("TUNSETPERSIST", name);
    return {};
}

}  // namespace noid::net
