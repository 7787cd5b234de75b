#include "agent/cgroups.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string_view>
#include <utility>

namespace noid::agent {
namespace {

constexpr std::size_t max_spare = 8;

// Whether a cgroup has no processes; false for one that is gone.
bool is_empty(int parent, const std::string& name) {
    const Fd events{::openat(parent, (name + "/cgroup.events").c_str(), O_RDONLY | O_CLOEXEC)};
    if (!events) return false;
    std::array<char, 256> text{};
    const ssize_t size = ::read(events.get(), text.data(), text.size());
    return size > 0 && std::string_view{text.data(), static_cast<std::size_t>(size)}.find("populated 0\n") !=
                           std::string_view::npos;
}

}  // namespace

Cgroup& Cgroup::operator=(Cgroup&& other) noexcept {
    if (this == &other) return *this;
    give_back();
    owner_ = std::exchange(other.owner_, nullptr);
    name_ = std::move(other.name_);
    directory_ = std::move(other.directory_);
    killed_ = other.killed_;
    return *this;
}

void Cgroup::give_back() noexcept {
    if (!directory_ || !owner_) return;
    directory_.reset();
    owner_->returned_.push_back({std::move(name_), killed_});
}

bool Cgroup::kill() noexcept {
    killed_ = true;
    const Fd file{::openat(directory_.get(), "cgroup.kill", O_WRONLY | O_CLOEXEC)};
    return file && ::write(file.get(), "1", 1) == 1;
}

bool Cgroups::find_hierarchy() {
    if (parent_) return true;
    // Asked for each session until it is there: the image's init may mount it after the agent's start.
    for (const char* mount_point : {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}) {
        struct statfs info {};
        if (::statfs(mount_point, &info) != 0 || info.f_type != CGROUP2_SUPER_MAGIC) continue;
        std::string path = std::string{mount_point} + "/noid-sessions-" + std::to_string(::getpid());
        if (::mkdir(path.c_str(), 0755) != 0 && errno != EEXIST) continue;
        parent_.reset(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
        parent_path_ = std::move(path);
        return static_cast<bool>(parent_);
    }
    return false;
}

void Cgroups::sort_out_returned() {
    std::erase_if(returned_, [this](const Returned& returned) {
        if (!is_empty(parent_.get(), returned.name)) return false;
        if (!returned.killed && spare_.size() < max_spare) {
            spare_.push_back(returned.name);
            return true;
        }
        return ::unlinkat(parent_.get(), returned.name.c_str(), AT_REMOVEDIR) == 0;
    });
}

Cgroup Cgroups::acquire() {
    Cgroup cgroup;
    if (!find_hierarchy()) return cgroup;
    if (spare_.empty()) sort_out_returned();
    std::string name;
    if (!spare_.empty()) {
        name = std::move(spare_.back());
        spare_.pop_back();
    } else {
        name = std::to_string(next_++);
        if (::mkdirat(parent_.get(), name.c_str(), 0755) != 0 && errno != EEXIST) return cgroup;
    }
    cgroup.directory_.reset(::openat(parent_.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    cgroup.owner_ = this;
    cgroup.name_ = std::move(name);
    return cgroup;
}

Cgroups::~Cgroups() {
    if (!parent_) return;
    for (const auto& name : spare_) ::unlinkat(parent_.get(), name.c_str(), AT_REMOVEDIR);
    for (const auto& returned : returned_) ::unlinkat(parent_.get(), returned.name.c_str(), AT_REMOVEDIR);
    ::rmdir(parent_path_.c_str());
}

}  // namespace noid::agent
