#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <string>

#include "base/error.hpp"
#include "base/fd.hpp"

// Who may use what in the directory of a confined VMM. Its user's group is the key to it: there the VMM may
// make files and remove its own, while everything that the server has put there stays the server's, so that
// no name in it can be turned into a link to something else.
namespace noid::vmm {

// Opens the directory to the group. Sticky: only the owner of a file or of the directory removes or renames
// the file.
[[nodiscard]] Result<void> let_in(const Fd& directory, gid_t group);

// Opens what is called `name` in the directory to the group, for reading and writing. corrupt if it is not of
// this `kind` (S_IFREG, S_IFIFO): what a name points to is never touched.
[[nodiscard]] Result<void> let_write(const Fd& directory, const std::string& name, gid_t group,
                                     mode_t kind = S_IFREG);

// Makes a snapshot's file the server's, and everybody may read it: clones, of other users, map it through
// hard links. Directories that only the server enters keep it from the rest. corrupt if it is not a regular
// file.
[[nodiscard]] Result<void> seal(const Fd& directory, const std::string& name);

}  // namespace noid::vmm
