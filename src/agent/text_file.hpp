#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/error.hpp"

namespace noid::agent {

// A small file's contents. too_large beyond `limit` bytes; not_found and others as open(2) says.
[[nodiscard]] Result<std::string> read_text_file(const std::string& path, std::size_t limit);

// Makes `text` the contents of `path`. A symbolic link is replaced, not followed, so a dangling one
// does no harm. Mode and owner of a regular file stay; a new one has mode 0644. Nothing happens when
// the contents are right already.
//
// What fits a page goes into the file as it is, by one write(2), so that a crash leaves the old or the
// new text; somebody who reads in that moment may see the new text cut to the old length. Everything
// else is put in its place by rename(2), which costs a cold ext4 tens of milliseconds.
[[nodiscard]] Result<void> replace_text_file(const std::string& path, std::string_view text);

// Writes `text` to a file of the kernel's (/proc/sys, cgroups) in one write(2).
[[nodiscard]] Result<void> write_kernel_file(const std::string& path, std::string_view text);

}  // namespace noid::agent
