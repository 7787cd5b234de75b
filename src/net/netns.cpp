#include "net/netns.hpp"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "base/file.hpp"

namespace noid::net {

namespace fs = std::filesystem;

namespace {

constexpr const char* own_namespace = "/proc/thread-self/ns/net";

fs::path sysctl_path(const std::string& name) {
    return fs::path{"/proc/sys/net"} / name;
}

}  // namespace

InNamespace::~InNamespace() {
    if (!home_) return;
    if (::setns(home_.get(), CLONE_NEWNET) == 0) return;
    std::perror("noid-netd: cannot return to the host's network namespace");
    std::abort();
}

Result<InNamespace> InNamespace::enter(const fs::path& file) {
    auto home = open_file(own_namespace, O_RDONLY);
    if (!home) return fail(home.error());
    auto target = open_file(file, O_RDONLY);
    if (!target) return fail(target.error());
    if (::setns(target->get(), CLONE_NEWNET) != 0)
        return fail_errno(errno, "cannot enter the namespace " + file.string());
    return InNamespace{std::move(*home)};
}

Result<InNamespace> InNamespace::create(const fs::path& file) {
    auto home = open_file(own_namespace, O_RDONLY);
    if (!home) return fail(home.error());
    if (auto place = open_file(file, O_RDONLY | O_CREAT | O_EXCL, 0444); !place) return fail(place.error());
    if (::unshare(CLONE_NEWNET) != 0) {
        const int error = errno;
        ::unlink(file.c_str());
        return fail_errno(error, "cannot make a network namespace");
    }
    InNamespace inside{std::move(*home)};
    if (::mount(own_namespace, file.c_str(), "none", MS_BIND, nullptr) != 0) {
        const int error = errno;
        ::unlink(file.c_str());
        return fail_errno(error, "cannot keep the network namespace at " + file.string());
    }
    return inside;
}

Result<void> remove_namespace(const fs::path& file) {
    // EINVAL: nothing is mounted there, as after a start that was interrupted.
    if (::umount2(file.c_str(), MNT_DETACH) != 0 && errno != EINVAL && errno != ENOENT)
        return fail_errno(errno, "cannot unmount " + file.string());
    if (::unlink(file.c_str()) != 0 && errno != ENOENT)
        return fail_errno(errno, "cannot remove " + file.string());
    return {};
}

std::vector<std::string> list_namespaces(const fs::path& directory) {
    std::vector<std::string> names;
    std::error_code error;
    for (fs::directory_iterator at{directory, error}, end; !error && at != end; at.increment(error))
        names.push_back(at->path().filename().string());
    return names;
}

Result<void> write_sysctl(const std::string& name, const std::string& value) {
    auto file = open_file(sysctl_path(name), O_WRONLY);
    if (!file) return fail(file.error());
    return write_all(*file, value);
}

Result<std::string> read_sysctl(const std::string& name) {
    constexpr std::size_t longest = 4096;
    auto text = read_file(sysctl_path(name), longest);
    if (text && text->ends_with('\n')) text->pop_back();
    return text;
}

}  // namespace noid::net
