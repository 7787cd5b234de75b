#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/fd.hpp"
#include "base/process_identity.hpp"
#include "base/units.hpp"

namespace noid::qemu {

// The RAM of a guest, read from outside of QEMU's process. The guest must be paused. It is mapped private:
// over nothing when it booted, over a snapshot's memory when it woke; what it wrote since then, and nothing
// else, is in anonymous pages, which /proc/PID/pagemap tells apart. Needs the right to trace the process.
// Everything blocks.
class GuestMemory {
  public:
    // `address`: where guest address 0 lies in the process.
    [[nodiscard]] static Result<GuestMemory> open(pid_t process, std::uint64_t address, MiB size);

    // Makes the empty `file` the guest's memory, with holes where it is zero. Returns the bytes written.
    [[nodiscard]] Result<std::uint64_t> write_all_to(const Fd& file) const;
    // Makes `file`, a copy of what the guest's memory was at any time since it began, what it is now. Writes
    // only pages that differ. Returns the bytes written.
    [[nodiscard]] Result<std::uint64_t> write_changes_to(const Fd& file) const;
    // Whether the guest's memory is mapped over `file`: then it must not be written to.
    [[nodiscard]] Result<bool> lies_over(const Fd& file) const;

  private:
    // Consecutive pages.
    struct Run {
        std::uint64_t offset = 0;
        std::uint64_t size = 0;
    };
    struct Mapping {
        std::uint64_t inode = 0;  // 0: no file
    };

    GuestMemory() = default;
    [[nodiscard]] Result<std::vector<Run>> own_pages() const;
    [[nodiscard]] Result<Mapping> mapping() const;
    [[nodiscard]] Result<void> read(std::uint64_t offset, std::string& buffer) const;

    pid_t process_ = 0;
    std::uint64_t address_ = 0;
    std::uint64_t size_ = 0;
};

}  // namespace noid::qemu
