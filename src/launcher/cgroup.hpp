#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/fd.hpp"

namespace noid::launcher {

// How many times as many tasks as its control group may have the user of a VMM may have, where that is the
// only bound: room for another server on the host that gives out the same users.
inline constexpr std::uint32_t tasks_of_user_factor = 8;

// What the processes of one control group may use together.
struct CgroupLimits {
    std::uint64_t memory = 0;       // bytes of RAM, page cache included, and as many of swap
    std::uint32_t cpu_percent = 0;  // of one CPU's time
    std::uint32_t tasks = 0;        // processes and threads
};

// One control group. When this goes the group goes, unless somebody is left in it.
class Cgroup {
  public:
    Cgroup(Cgroup&&) noexcept = default;
    Cgroup& operator=(Cgroup&&) = delete;
    ~Cgroup();

    // For ProcessSpec::cgroup.
    [[nodiscard]] Result<Fd> descriptor() const;
    [[nodiscard]] const std::string& name() const noexcept { return name_; }

  private:
    friend class Cgroups;
    Cgroup(Fd parent, Fd directory, std::string name) noexcept
        : parent_{std::move(parent)}, directory_{std::move(directory)}, name_{std::move(name)} {}

    Fd parent_;
    Fd directory_;  // locked (flock), so that nobody takes it for one that was left behind
    std::string name_;
};

// A directory of control groups (cgroup v2), one for each VMM. Several servers may share it. Thread-safe;
// everything blocks for the moment that the kernel takes.
class Cgroups {
  public:
    // `directory` is made if its parent lets that happen, and gets the controllers that the parent has to
    // give; groups that were left behind in it, with nobody in them, go. unsupported: not cgroup v2.
    [[nodiscard]] static Result<Cgroups> open(const std::filesystem::path& directory);
    // Where open() looks by default: "noid" in the first cgroup v2 hierarchy that is mounted.
    [[nodiscard]] static Result<std::filesystem::path> usual_directory();

    // A new group, its name beginning with `name`. Limits without a controller are left out.
    [[nodiscard]] Result<Cgroup> make(const std::string& name, const CgroupLimits& limits) const;
    // The group of these that a process is in.
    [[nodiscard]] std::optional<Cgroup> of_process(pid_t process) const;

    // Of cpu, memory, pids and io, those that hold here, and those that do not.
    [[nodiscard]] const std::vector<std::string>& controllers() const noexcept { return controllers_; }
    [[nodiscard]] const std::vector<std::string>& missing() const noexcept { return missing_; }

  private:
    Cgroups() = default;
    void sweep() const;
    [[nodiscard]] bool has(std::string_view controller) const;
    [[nodiscard]] Result<void> limit(const Fd& group, const CgroupLimits& limits) const;

    Fd directory_;
    std::vector<std::string> controllers_;
    std::vector<std::string> missing_;
};

}  // namespace noid::launcher
