#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/fd.hpp"

// Directory trees as POSIX tar streams. Files, directories, symbolic and hard links with modes and
// times; owners, extended attributes and everything else stay where they are.
namespace noid::cli {

// A tree on its way into a tar stream, "." its root, everything owned by root. Blocks on the disk only.
class TreePacker {
  public:
    // not_found and the like for a directory that cannot be read.
    [[nodiscard]] static Result<TreePacker> open(const std::filesystem::path& directory);
    TreePacker(TreePacker&&) noexcept;
    TreePacker& operator=(TreePacker&&) noexcept;
    ~TreePacker();

    // The next bytes of the stream; 0 is its end.
    [[nodiscard]] Result<std::size_t> read(std::span<char> out);
    // Sockets, devices and pipes, which are left out.
    [[nodiscard]] const std::vector<std::string>& skipped() const noexcept;

  private:
    struct State;
    explicit TreePacker(std::unique_ptr<State> state) noexcept;
    std::unique_ptr<State> state_;
};

struct Unpacked {
    std::uint64_t entries = 0;
    std::vector<std::string> skipped;  // devices and pipes
};

// Whether the archive's root says which mode the directory itself gets.
enum class RootEntry : std::uint8_t { applied, ignored };

// Unpacks the tar stream that `stream` reads to its end into `directory`, as this user, under the
// umask, without set-user-id bits. Whatever the stream says, nothing outside of `directory` is made,
// changed or followed into. Blocks: for a thread of its own.
[[nodiscard]] Result<Unpacked> unpack_tree(Fd stream, const std::filesystem::path& directory, RootEntry root);

}  // namespace noid::cli
