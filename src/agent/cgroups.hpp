#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/fd.hpp"

namespace noid::agent {

class Cgroups;

// A cgroup for one session: whatever its processes do, they can be killed together. Its owner gives it
// back by destroying this; processes that are still in it run on.
class Cgroup {
  public:
    Cgroup() = default;
    Cgroup(Cgroup&&) noexcept = default;
    Cgroup& operator=(Cgroup&& other) noexcept;
    ~Cgroup() { give_back(); }

    [[nodiscard]] explicit operator bool() const noexcept { return static_cast<bool>(directory_); }
    // For clone3's CLONE_INTO_CGROUP.
    [[nodiscard]] int directory() const noexcept { return directory_.get(); }
    // SIGKILL to every process in it. False when this kernel cannot (before 5.14).
    bool kill() noexcept;

  private:
    friend class Cgroups;
    void give_back() noexcept;

    Cgroups* owner_ = nullptr;
    std::string name_;
    Fd directory_;
    bool killed_ = false;
};

// Hands out cgroups of the version 2 hierarchy, where the image has mounted one. Empty ones are used
// again, as making one takes longer than starting a process, but none that was killed: Linux since 6.14
// also kills what is started in such a cgroup later, if clone3 starts it there.
class Cgroups {
  public:
    Cgroups() = default;
    Cgroups(const Cgroups&) = delete;
    Cgroups& operator=(const Cgroups&) = delete;
    // Removes those that are empty.
    ~Cgroups();

    // An empty cgroup; one that owns nothing when there is no hierarchy, which is no error.
    [[nodiscard]] Cgroup acquire();

  private:
    friend class Cgroup;
    [[nodiscard]] bool find_hierarchy();
    void sort_out_returned();

    struct Returned {
        std::string name;  // it may still have processes
        bool killed;
    };
    Fd parent_;
    std::string parent_path_;
    std::uint64_t next_ = 1;
    std::vector<std::string> spare_;
    std::vector<Returned> returned_;
};

}  // namespace noid::agent
