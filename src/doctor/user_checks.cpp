#include "doctor/user_checks.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "privileged/server_user.hpp"

namespace noid::doctor {

namespace {

constexpr auto subject = "server's user";

// In the data directory the server itself sees to that.
bool is_readable(const std::filesystem::path& file, const privileged::ServerUser& user,
                 const std::filesystem::path& data_dir) {
    struct stat status {};
    if (::stat(file.c_str(), &status) != 0 || file.parent_path() == data_dir / "images") return true;
    const auto [id, group] = user.credentials;
    if (status.st_uid == id) return (status.st_mode & S_IRUSR) != 0;
    const bool is_in_group =
        status.st_gid == group || std::ranges::find(user.groups, status.st_gid) != user.groups.end();
    return (status.st_mode & (is_in_group ? S_IRGRP : S_IROTH)) != 0;
}

}  // namespace

Finding check_server_user(const config::ServerConfig& config) {
    if (::geteuid() != 0)
        return {subject, Verdict::warning, "this one: VMMs are not confined, and run as the server does",
                "let root start the server: it becomes another user by itself"};
    if (config.vmm.jail == config::ServerConfig::Vmm::Jail::never)
        return {subject, Verdict::warning, "root, because VMMs are not confined ([vmm] jail)",
                "remove jail = \"never\" from [vmm]"};
    const launcher::UserRange vmm_users{.first = config.vmm.first_uid, .count = config.vmm.uids};
    const auto user = privileged::find_server_user(config.server.user, vmm_users, config.paths.data_dir);
    if (!user)
        return {subject, Verdict::failure, user.error().full(), "useradd --system, or change [server] user"};
    for (const auto& file : {config.paths.kernel, config.paths.initrd, config.paths.rootfs}) {
        if (!is_readable(file, *user, config.paths.data_dir))
            return {subject, Verdict::failure, fmt::format("{} may not read {}", user->name, file.string()),
                    "chmod o+r it"};
    }
    return {subject, Verdict::ok, user->name, {}};
}

}  // namespace noid::doctor
