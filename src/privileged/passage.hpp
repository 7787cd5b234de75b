#pragma once

#include <filesystem>
#include <vector>

#include "base/error.hpp"
#include "privileged/server_user.hpp"

namespace noid::privileged {

// Lets a user get to files and directories that lie below ones which he may not enter, such as /root/.noid:
// in a mount namespace of this process's own, what he may not enter is replaced by a place that can be passed
// and holds nothing else. Nothing happens where all can be reached anyway; what is not there is left out.
// What the files themselves allow does not change. Before there are threads; needs root.
[[nodiscard]] Result<void> open_passage(const std::vector<std::filesystem::path>& places,
                                        const ServerUser& user);

}  // namespace noid::privileged
