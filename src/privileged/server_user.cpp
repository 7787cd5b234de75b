#include "privileged/server_user.hpp"

#include <fmt/format.h>
#include <grp.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <utility>

#include "launcher/capabilities.hpp"

namespace noid::privileged {

namespace {

std::string in_words(uid_t user) {
    return fmt::format("user {}", user);
}

ServerUser from_entry(const passwd& entry) {
    ServerUser user{{entry.pw_uid, entry.pw_gid}, {}, entry.pw_name};
    int count = 64;
    user.groups.resize(static_cast<std::size_t>(count));
    while (::getgrouplist(entry.pw_name, entry.pw_gid, user.groups.data(), &count) < 0)
        user.groups.resize(static_cast<std::size_t>(count));
    user.groups.resize(static_cast<std::size_t>(count));
    return user;
}

// Root's users are looked up once, before there are threads: the functions need not be thread-safe.
std::optional<ServerUser> user_called(const std::string& name) {
    const passwd* entry = ::getpwnam(name.c_str());
    if (entry == nullptr) return std::nullopt;
    return from_entry(*entry);
}

std::optional<ServerUser> owner_of(const std::filesystem::path& data_dir) {
    struct stat status {};
    if (::stat(data_dir.c_str(), &status) != 0 || status.st_uid == 0) return std::nullopt;
    if (const passwd* entry = ::getpwuid(status.st_uid)) return from_entry(*entry);
    return ServerUser{{status.st_uid, status.st_gid}, {}, in_words(status.st_uid)};
}

}  // namespace

Result<ServerUser> find_server_user(const std::string& wanted, const launcher::UserRange& vmm_users,
                                    const std::filesystem::path& data_dir) {
    auto user = owner_of(data_dir);
    if (!user) user = user_called(wanted);
    if (!user && wanted == usual_server_user) {
        const uid_t next = vmm_users.first + vmm_users.count;
        user = ServerUser{{next, next}, {}, in_words(next)};
    }
    if (!user)
        return fail(Errc::not_found,
                    fmt::format("there is no user '{}' for the server to run as ([server] user)", wanted));
    const uid_t id = user->credentials.user;
    if (id == 0) return fail(Errc::invalid, "[server] user must not be root");
    if (id >= vmm_users.first && id - vmm_users.first < vmm_users.count)
        return fail(Errc::invalid,
                    fmt::format("[server] user '{}' is one of those that VMMs run as ([vmm] first_uid, uids)",
                                user->name));
    return std::move(*user);
}

Result<void> become(const ServerUser& user, std::span<const int> kept) {
    if (!launcher::change_identity(user.credentials, user.groups, kept) ||
        ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return fail_errno(errno, "cannot become " + user.name);
    return {};
}

}  // namespace noid::privileged
