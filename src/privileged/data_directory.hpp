#pragma once

#include <filesystem>

#include "base/error.hpp"
#include "privileged/server_user.hpp"

namespace noid::privileged {

// Makes a data directory one that a server of root's and its user share. The directory itself is root's, open
// to the user's group, sticky: what root reads in it (server.toml, images, the pool's image) the server
// cannot replace. Everything else is the user's.
//
// What an earlier server left that ran as root, or as another user, is given to this one, once: no link is
// followed, no other file system entered but the pool, and what belongs to VMMs stays theirs. A directory
// that belongs to another user than root stays as it is. Blocking; needs root.
[[nodiscard]] Result<void> share_data_directory(const std::filesystem::path& data_dir, const ServerUser& user,
                                                const launcher::UserRange& vmm_users);

// Gives the user what a command of root's has put there.
[[nodiscard]] Result<void> give_new_files(const std::filesystem::path& data_dir, const ServerUser& user);

}  // namespace noid::privileged
