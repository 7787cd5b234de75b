#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <string>

#include "base/error.hpp"
#include "base/fd.hpp"

// Who may use what in the directory of a confined VMM. Its user's group is the key to it, and the group of
// whatever is made in there (set-group-id); everything that the server has put there stays the server's, so
// that no name in it can be turned into a link to something else. So opening a file to the VMM, or closing it
// again, takes no more than being its owner.
namespace noid::vmm {

// Whether a VMM makes files in its directory: then it may remove its own, but nothing else (sticky).
enum class Makes : std::uint8_t { nothing, files };

// Opens the directory to the group. Needs CAP_CHOWN and CAP_FSETID.
[[nodiscard]] Result<void> let_in(const Fd& directory, gid_t group, Makes makes);

// Opens what is called `name` in the directory to the directory's group, for reading and writing. corrupt if
// it is not a regular file: what a name points to is never touched.
[[nodiscard]] Result<void> let_write(const Fd& directory, const std::string& name);

// Makes a snapshot's file one that nobody writes and everybody may read: clones, of other users, map it
// through hard links. Directories that only the server enters keep it from the rest. corrupt if it is not a
// regular file.
[[nodiscard]] Result<void> seal(const Fd& directory, const std::string& name);

}  // namespace noid::vmm
