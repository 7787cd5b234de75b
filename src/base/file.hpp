#pragma once

#include <sys/types.h>

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>

#include "base/error.hpp"
#include "base/fd.hpp"

// Files by name, and files by name inside an open directory. Everything here blocks: call it on a
// pool when the disk may be slow. Errors name the file as the caller did.
namespace noid {

// open(2), close-on-exec.
[[nodiscard]] Result<Fd> open_file(const std::filesystem::path& path, int flags, mode_t mode = 0600);
// openat(2), close-on-exec. `name` is one component or a relative path.
[[nodiscard]] Result<Fd> open_file_at(const Fd& directory, const std::string& name, int flags,
                                      mode_t mode = 0600);
// For use with the functions that take a directory.
[[nodiscard]] Result<Fd> open_directory(const std::filesystem::path& path);

// The whole content; too_large when it exceeds `limit` bytes. Works for /proc, where sizes read as 0.
[[nodiscard]] Result<std::string> read_file(const std::filesystem::path& path, std::size_t limit);
[[nodiscard]] Result<std::string> read_file_at(const Fd& directory, const std::string& name,
                                               std::size_t limit);

// Writes all of `bytes` at the file's position, or at `offset`.
[[nodiscard]] Result<void> write_all(const Fd& file, std::string_view bytes);
[[nodiscard]] Result<void> write_all_at(const Fd& file, std::string_view bytes, off_t offset);

// Data and size reach the disk before this returns (fdatasync).
[[nodiscard]] Result<void> sync_data(const Fd& file);
// The names in a directory reach the disk: after creating, renaming or unlinking in it.
[[nodiscard]] Result<void> sync_directory(const Fd& directory);

// Puts a file with this content at `name`, in place of what was there: a reader, and the disk after a
// power cut, see the old content or the new, never a part. Leaves nothing behind on failure.
[[nodiscard]] Result<void> replace_file_at(const Fd& directory, const std::string& name,
                                           std::string_view content, mode_t mode = 0600);

}  // namespace noid
