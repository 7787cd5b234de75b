#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/fd.hpp"
#include "base/units.hpp"

namespace noid::qemu {

// The RAM of a guest, read from outside of QEMU's process. The guest must be paused. It is mapped private:
// over nothing when it booted, over a snapshot's memory when it woke; what it wrote since then, and nothing
// else, is in anonymous pages, which /proc/PID/pagemap tells apart. Of each of those that was saved it keeps
// a fingerprint, 16 bytes for 4096, to tell which have changed since. With the process's userfaultfd only
// those are looked at that were written since: the kernel protects a page once it has been looked at, and
// lets the first write to it through at once (PAGEMAP_SCAN in Documentation/admin-guide/mm/pagemap.rst).
// Everything blocks, and uses several threads for a large guest: its CPUs stand still meanwhile.
class GuestMemory {
  public:
    // What the guest wrote before this object was made: nothing, for it has only begun; or who knows.
    enum class Past : std::uint8_t { none, unknown };

    // Open files of /proc/PID, whose opening takes the right to trace the process. What they show belongs to
    // that process even if it has ended and another got its number.
    struct Files {
        Fd memory;   // mem
        Fd pagemap;  // pagemap
        Fd maps;     // maps
        // Not of /proc: the process's own one (vmm/userfaultfd.hpp), or none.
        Fd userfaultfd;
    };

    // `address`: where guest address 0 lies in the process.
    [[nodiscard]] static Result<GuestMemory> open(Files files, std::uint64_t address, MiB size, Past past);

    // A guest that runs changes its pages meanwhile: write_changes_to() the same file, once it is paused,
    // makes that whole. One thread, so that the guest's CPUs are left to it.
    enum class Guest : std::uint8_t { paused, running };

    // Makes the empty `file` the guest's memory, with holes where it is zero. Returns the bytes written.
    [[nodiscard]] Result<std::uint64_t> write_all_to(const Fd& file, Guest guest = Guest::paused);
    // Makes `file`, a copy of what the guest's memory was when it was last written or when it woke, what it
    // is now. Writes only pages that differ. Returns the bytes written.
    [[nodiscard]] Result<std::uint64_t> write_changes_to(const Fd& file, Guest guest = Guest::paused);
    // Whether the guest's memory is mapped over `file`: then it must not be written to.
    [[nodiscard]] Result<bool> lies_over(const Fd& file) const;

  private:
    // Consecutive pages.
    struct Run {
        std::uint64_t offset = 0;
        std::uint64_t size = 0;
    };
    // Two equal ones mean equal pages; {0, 0} is that of no page.
    struct Fingerprint {
        std::uint64_t low = 0;
        std::uint64_t high = 0;
        bool operator==(const Fingerprint&) const = default;
    };
    // Which pages to look at.
    enum class Own : std::uint8_t { all, written_since_looked_at };
    // Which pages to write.
    enum class Wanted : std::uint8_t { not_zero, changed_since_saved, differing_from_file };
    class Copy;

    GuestMemory() = default;
    // Those that are looked at from now on count as not written.
    [[nodiscard]] Result<std::vector<Run>> own_pages(Own which);
    [[nodiscard]] Result<std::vector<Run>> search_page_map(Own which) const;
    [[nodiscard]] Result<std::vector<Run>> read_page_map() const;
    void follow_writes();
    // Of the file that it is mapped over; 0: none.
    [[nodiscard]] Result<std::uint64_t> mapped_inode() const;
    [[nodiscard]] static Fingerprint fingerprint_of(const char* page);
    [[nodiscard]] Result<void> read(std::uint64_t offset, std::string& buffer) const;
    [[nodiscard]] Result<std::uint64_t> write(const std::vector<Run>& runs, const Fd& file, Wanted wanted,
                                              Guest guest);

    Files files_;
    std::uint64_t address_ = 0;
    std::uint64_t size_ = 0;
    std::uint64_t inode_ = 0;
    bool saved_is_known_ = false;     // whether saved_ speaks of all that was written
    std::vector<Fingerprint> saved_;  // by page, as last saved
};

}  // namespace noid::qemu
