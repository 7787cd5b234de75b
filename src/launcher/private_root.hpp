#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/fd.hpp"
#include "launcher/confinement.hpp"

namespace noid::launcher {

// In a mount namespace of its own: nothing in it reaches the host's any more; its root becomes an empty
// tmpfs, and the working directory. Only system calls. False, with errno, when a step fails.
[[nodiscard]] bool make_empty_root() noexcept;

// A PrivateRoot, made ready by the parent so that its child, between clone and exec, has only system calls
// left to do: it may neither allocate nor take a lock.
class PreparedRoot {
  public:
    // Errors name the path that cannot be had.
    [[nodiscard]] static Result<PreparedRoot> prepare(const PrivateRoot& root,
                                                      const std::optional<Credentials>& owner);

    // In the child, in an empty root: puts everything there, and makes the root itself read-only. False, with
    // errno, when a step fails.
    [[nodiscard]] bool fill() const noexcept;

  private:
    struct Entry {
        Fd tree;             // a detached mount
        std::string target;  // relative to the new root
        bool is_directory = false;
    };
    struct Device {
        std::string target;
        dev_t number = 0;
    };

    struct File {
        std::string target;
        std::string content;
    };

    Result<void> add_entry(const std::filesystem::path& path, bool writable);
    // `tree`: what is to appear at `path`, a mount that is attached nowhere.
    Result<void> add_tree(const std::filesystem::path& path, Fd tree, bool writable);
    Result<void> add_device(const std::filesystem::path& path);
    void add_parents(const std::filesystem::path& path);

    std::vector<std::string> directories_;  // to make, parents first
    std::vector<Entry> entries_;
    std::vector<Device> devices_;
    std::vector<File> files_;
    Credentials owner_;
};

}  // namespace noid::launcher
