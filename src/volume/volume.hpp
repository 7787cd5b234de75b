#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "base/error.hpp"
#include "base/fd.hpp"
#include "base/units.hpp"

// Disk and memory images as files. Everything here blocks: call it on a pool. Thread-safe.
//
// What reaches the disk when: nothing here syncs. Whoever publishes a set of files syncs each of them and
// then their directory (base/file.hpp) before the rename that makes the set visible.
namespace noid::volume {

// A file by its name in an open directory.
struct Place {
    const Fd& directory;
    std::string name;
};

// How one file system clones files. Its users never ask which one they have.
class Volume {
  public:
    Volume() = default;
    Volume(const Volume&) = delete;
    Volume& operator=(const Volume&) = delete;
    virtual ~Volume() = default;

    [[nodiscard]] virtual std::string_view name() const noexcept = 0;  // "reflink", "copy"
    // Whether a clone takes neither time nor space in proportion to its size.
    [[nodiscard]] virtual bool clones_are_free() const noexcept = 0;
    // no_space when too little is left to write anything large, where the file system itself does not see
    // that.
    [[nodiscard]] virtual Result<void> has_room() const { return {}; }

    // Puts a file with the content of `from` at `to`, which must not exist (conflict); holes stay holes. It
    // is there as a whole or not at all: no_space and every other failure leave nothing behind. `from` may
    // lie on another file system. It must not change meanwhile.
    [[nodiscard]] virtual Result<void> clone(const Place& from, const Place& to) const = 0;
};

// Tries once what the file system of `directory` can do, with two small files that are gone afterwards.
[[nodiscard]] Result<std::unique_ptr<Volume>> probe(const Fd& directory);
// The one that works everywhere.
[[nodiscard]] std::unique_ptr<Volume> copying_volume();

// Makes the file larger, by a hole: space is never taken ahead. invalid when it is larger already.
[[nodiscard]] Result<void> grow(const Fd& file, MiB size);

struct Space {
    std::uint64_t allocated = 0;  // bytes that the file occupies, alone or shared
    std::uint64_t exclusive = 0;  // of these, what deleting it would free; equals `allocated` where the file
                                  // system does not tell
};
// Asks the file system, which writes out what it holds back of this file to answer.
[[nodiscard]] Result<Space> space_of(const Fd& file);

}  // namespace noid::volume
