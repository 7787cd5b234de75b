#include "privileged/data_directory.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/file.hpp"

namespace noid::privileged {

namespace fs = std::filesystem;

namespace {

constexpr mode_t shared_mode = 01770;
constexpr int deepest = 64;  // directories in each other; Noid makes eight

// What the server keeps, by how the names begin. Everything else is root's: server.toml, the pool's image,
// and what has nothing to do with the server, such as the configuration of root's client.
constexpr std::array servers_own{"noid.db",   "users", "golden",     "templates", "warm",
                                 "server-id", "lock",  "admin.sock", "lost+found"};
constexpr auto images = "images";
constexpr auto pool = "pool";

bool is_servers_own(std::string_view name) {
    return std::ranges::any_of(servers_own, [&](std::string_view begin) { return name.starts_with(begin); });
}

Result<std::vector<std::string>> names_in(const Fd& directory) {
    Fd copy{::openat(directory.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (!copy) return fail_errno(errno, "cannot list a directory");
    const std::unique_ptr<DIR, int (*)(DIR*)> list{::fdopendir(copy.get()), ::closedir};
    if (!list) return fail_errno(errno, "cannot list a directory");
    [[maybe_unused]] const int owned_by_list = copy.release();
    std::vector<std::string> names;
    errno = 0;
    while (const dirent* entry = ::readdir(list.get())) {
        const std::string_view name{entry->d_name};
        if (name != "." && name != "..") names.emplace_back(name);
    }
    if (errno != 0) return fail_errno(errno, "cannot list a directory");
    return names;
}

// Gives a tree to the server's user.
class Handover {
  public:
    // Whose files are given: root's, when a server of root's left them, or when a command of root's did,
    // which gives no file two names; or another server user's.
    enum class From : std::uint8_t { server_of_roots, command_of_roots, other_user };
    Handover(const ServerUser& user, From from, const launcher::UserRange& vmm_users = {})
        : user_{user.credentials}, from_{from}, vmm_users_{vmm_users} {}

    // `name`: one component, in an open directory.
    Result<void> give(const Fd& directory, const std::string& name, int depth = 0) {
        const auto entry = open_file_at(directory, name, O_PATH | O_NOFOLLOW);
        if (!entry) {
            // A VMM may have removed a socket meanwhile.
            if (entry.error().code == Errc::not_found) return {};
            return fail(entry.error());
        }
        struct stat status {};
        if (::fstat(entry->get(), &status) != 0) return fail_errno(errno, "cannot look at " + name);
        if (S_ISDIR(status.st_mode)) {
            if (depth >= deepest) return fail(Errc::corrupt, "directories are nested too deeply at " + name);
            if (auto done = give_content(directory, name, status.st_dev, depth); !done) return done;
        }
        if (!is_to_give(status)) return {};
        // The group of a confined VMM's directory and files is the VMM's.
        const bool is_vmms = S_ISDIR(status.st_mode) && is_of_vmm(status.st_gid);
        const gid_t group = is_of_vmm(status.st_gid) ? status.st_gid : user_.group;
        if (::fchownat(entry->get(), "", user_.user, group, AT_EMPTY_PATH) != 0)
            return fail_errno(errno, "cannot give " + name + " to the server's user");
        // What the server makes in there is to be the VMM's group's.
        const auto path = "/proc/self/fd/" + std::to_string(entry->get());
        if (is_vmms && ::chmod(path.c_str(), (status.st_mode & 07777) | S_ISGID) != 0)
            return fail_errno(errno, "cannot set who may use " + name);
        return {};
    }

  private:
    // A user or group: each VMM's has the same number.
    [[nodiscard]] bool is_of_vmm(std::uint32_t id) const {
        return id >= vmm_users_.first && id - vmm_users_.first < vmm_users_.count;
    }

    [[nodiscard]] bool is_to_give(const struct stat& status) const {
        switch (from_) {
            case From::server_of_roots:
                return status.st_uid == 0;
            case From::command_of_roots:
                return status.st_uid == 0 && (S_ISDIR(status.st_mode) || status.st_nlink == 1);
            case From::other_user:
                break;
        }
        return status.st_uid != 0 && !is_of_vmm(status.st_uid);
    }

    Result<void> give_content(const Fd& directory, const std::string& name, dev_t device, int depth) {
        const auto inside = open_file_at(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
        if (!inside) return fail(inside.error());
        struct stat status {};
        if (::fstat(inside->get(), &status) != 0) return fail_errno(errno, "cannot look at " + name);
        if (status.st_dev != device) return {};  // another file system
        const auto names = names_in(*inside);
        if (!names) return fail(names.error());
        for (const auto& each : *names) {
            if (auto done = give(*inside, each, depth + 1); !done) return done;
        }
        return {};
    }

    launcher::Credentials user_;
    From from_;
    launcher::UserRange vmm_users_;
};

// Images stay root's, and the server reads them.
Result<void> open_images(const Fd& data_dir, gid_t group) {
    if (::mkdirat(data_dir.get(), images, 0750) != 0 && errno != EEXIST)
        return fail_errno(errno, "cannot make the directory of images");
    const auto directory = open_file_at(data_dir, images, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    // A link to where an operator keeps them: who reads them is his to say.
    if (!directory) return {};
    struct stat status {};
    if (::fstat(directory->get(), &status) != 0) return fail_errno(errno, "cannot look at the images");
    if (status.st_uid == 0 && (status.st_mode & 05) != 05 &&
        (::fchown(directory->get(), 0, group) != 0 ||
         ::fchmod(directory->get(), (status.st_mode & 07777) | 050) != 0))
        return fail_errno(errno, "cannot let the server read the images");
    const auto names = names_in(*directory);
    if (!names) return fail(names.error());
    for (const auto& name : *names) {
        const auto file = open_file_at(*directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
        if (!file || ::fstat(file->get(), &status) != 0) continue;
        if (!S_ISREG(status.st_mode) || status.st_uid != 0 || status.st_nlink != 1) continue;
        if ((status.st_mode & 04) == 0 && (::fchown(file->get(), 0, group) != 0 ||
                                           ::fchmod(file->get(), (status.st_mode & 07777) | 040) != 0))
            return fail_errno(errno, "cannot let the server read " + name);
    }
    return {};
}

Result<void> give_pool(const Fd& data_dir, const ServerUser& user, Handover& handover, bool with_content) {
    const auto mounted = open_file_at(data_dir, pool, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (!mounted) return {};  // there is none
    struct stat outside {};
    struct stat inside {};
    if (::fstat(data_dir.get(), &outside) != 0 || ::fstat(mounted->get(), &inside) != 0)
        return fail_errno(errno, "cannot look at the pool");
    if (inside.st_dev == outside.st_dev) return {};
    if (with_content) {
        const auto names = names_in(*mounted);
        if (!names) return fail(names.error());
        for (const auto& name : *names) {
            if (auto done = handover.give(*mounted, name); !done) return done;
        }
    }
    if (::fchown(mounted->get(), user.credentials.user, user.credentials.group) != 0 ||
        ::fchmod(mounted->get(), 0700) != 0)
        return fail_errno(errno, "cannot give the pool to the server's user");
    return {};
}

Result<void> give_all(const Fd& directory, const ServerUser& user, Handover handover) {
    const auto names = names_in(directory);
    if (!names) return fail(names.error());
    for (const auto& name : *names) {
        if (!is_servers_own(name)) continue;
        if (auto done = handover.give(directory, name); !done) return done;
    }
    return give_pool(directory, user, handover, true);
}

Result<Fd> open_shared(const fs::path& data_dir) {
    std::error_code failed;
    if (data_dir.has_parent_path()) fs::create_directories(data_dir.parent_path(), failed);
    if (failed)
        return fail_errno(failed.value(),
                          fmt::format("create directory {}", data_dir.parent_path().string()));
    if (::mkdir(data_dir.c_str(), 0700) != 0 && errno != EEXIST)
        return fail_errno(errno, fmt::format("create directory {}", data_dir.string()));
    return open_directory(data_dir);
}

}  // namespace

Result<void> share_data_directory(const fs::path& data_dir, const ServerUser& user,
                                  const launcher::UserRange& vmm_users) {
    const auto directory = open_shared(data_dir);
    if (!directory) return fail(directory.error());
    struct stat status {};
    if (::fstat(directory->get(), &status) != 0)
        return fail_errno(errno, fmt::format("look at {}", data_dir.string()));
    if (status.st_uid != 0) return {};
    const gid_t group = user.credentials.group;
    if (auto opened = open_images(*directory, group); !opened) return opened;
    using From = Handover::From;
    const bool is_shared = (status.st_mode & 07777) == shared_mode;
    if (is_shared && status.st_gid == group) {
        Handover nothing{user, From::command_of_roots};
        return give_pool(*directory, user, nothing, false);
    }
    const auto from = is_shared ? From::other_user : From::server_of_roots;
    if (auto given = give_all(*directory, user, Handover{user, from, vmm_users}); !given) return given;
    // Last: it says that the rest is done.
    if (::fchown(directory->get(), 0, group) != 0 || ::fchmod(directory->get(), shared_mode) != 0)
        return fail_errno(errno, fmt::format("share {} with the server's user", data_dir.string()));
    return {};
}

Result<void> give_new_files(const fs::path& data_dir, const ServerUser& user) {
    const auto directory = open_directory(data_dir);
    if (!directory) return fail(directory.error());
    return give_all(*directory, user, Handover{user, Handover::From::command_of_roots});
}

}  // namespace noid::privileged
