#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/error.hpp"

namespace noid::agent {

// A small file's contents. too_large beyond `limit` bytes; not_found and others as open(2) says.
[[nodiscard]] Result<std::string> read_text_file(const std::string& path, std::size_t limit);

// Makes `text` the contents of `path`, in one step: readers see the old or the new file. A symbolic
// link is replaced, not followed, so a dangling one does no harm. Mode and owner of a regular file
// stay; a new one has mode 0644. A file that a mount covers is written in place. Nothing happens
// when the contents are right already.
[[nodiscard]] Result<void> replace_text_file(const std::string& path, std::string_view text);

// Writes `text` to a file of the kernel's (/proc/sys, cgroups) in one write(2).
[[nodiscard]] Result<void> write_kernel_file(const std::string& path, std::string_view text);

}  // namespace noid::agent
