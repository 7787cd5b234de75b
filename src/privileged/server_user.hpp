#pragma once

#include <sys/types.h>

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "launcher/confinement.hpp"
#include "launcher/user_pool.hpp"

namespace noid::privileged {

// Whom the part of the server runs as that talks to the internet.
struct ServerUser {
    launcher::Credentials credentials;
    std::vector<gid_t> groups;  // supplementary
    std::string name;           // for people: "noid", "user 2016384"
};

// What the default configuration names. Where there is no such user, the id next to those of VMMs serves:
// nobody has it, and nothing has to be set up.
inline constexpr auto usual_server_user = "noid";

// The user called `wanted`; if the data directory is another user's than root's, that user, so that his files
// stay his. not_found when there is no such user; invalid when it is root, or one that VMMs run as.
[[nodiscard]] Result<ServerUser> find_server_user(const std::string& wanted,
                                                  const launcher::UserRange& vmm_users,
                                                  const std::filesystem::path& data_dir);

// Becomes that user for good: no capability but `kept` (CAP_…) is left, and no way to get one. Before there
// are threads; needs CAP_SETUID, CAP_SETGID and CAP_SETPCAP.
[[nodiscard]] Result<void> become(const ServerUser& user, std::span<const int> kept = {});

}  // namespace noid::privileged
