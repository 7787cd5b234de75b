#include "privileged/passage.hpp"

#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <optional>
#include <utility>

#include "base/fd.hpp"

namespace noid::privileged {

namespace fs = std::filesystem;

namespace {

// Is another user as far as file permissions go, until it goes.
class ActingAs {
  public:
    explicit ActingAs(const ServerUser& user) {
        const int count = ::getgroups(0, nullptr);
        before_.resize(static_cast<std::size_t>(std::max(count, 0)));
        acts_ = ::getgroups(count, before_.data()) >= 0 &&
                ::setgroups(user.groups.size(), user.groups.data()) == 0 &&
                ::setegid(user.credentials.group) == 0 && ::seteuid(user.credentials.user) == 0;
    }
    ActingAs(const ActingAs&) = delete;
    ActingAs& operator=(const ActingAs&) = delete;
    ~ActingAs() {
        // One that does not come back is root no more, and fails at whatever it does next.
        [[maybe_unused]] const bool back =
            ::seteuid(0) == 0 && ::setegid(0) == 0 && ::setgroups(before_.size(), before_.data()) == 0;
    }
    [[nodiscard]] bool acts() const noexcept { return acts_; }

  private:
    std::vector<gid_t> before_;
    bool acts_ = false;
};

// The uppermost directory on the way to `place` that this process may not enter.
std::optional<fs::path> obstacle_before(const fs::path& place) {
    fs::path directory{"/"};
    for (const auto& part : place.parent_path().relative_path()) {
        directory /= part;
        if (::faccessat(AT_FDCWD, directory.c_str(), X_OK, AT_EACCESS) != 0 && errno == EACCES)
            return directory;
    }
    return std::nullopt;
}

bool lies_in(const fs::path& path, const fs::path& directory) {
    return std::mismatch(directory.begin(), directory.end(), path.begin(), path.end()).first ==
           directory.end();
}

struct Opened {
    fs::path place;
    Fd tree;  // a mount that is attached nowhere
    bool is_directory = false;
};

Result<std::optional<Opened>> take(const fs::path& place) {
    Fd tree{::open_tree(AT_FDCWD, place.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE)};
    if (!tree && errno == ENOENT) return std::nullopt;
    struct stat status {};
    if (!tree || ::fstat(tree.get(), &status) != 0)
        return fail_errno(errno, "cannot open a passage to " + place.string());
    return Opened{place, std::move(tree), S_ISDIR(status.st_mode)};
}

// Puts an empty place over `obstacle`, in which only these appear.
Result<void> replace(const fs::path& obstacle, const std::vector<Opened>& opened) {
    const auto failed = [&] {
        return fail_errno(errno, "cannot open a passage through " + obstacle.string());
    };
    if (::mount("tmpfs", obstacle.c_str(), "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755,size=1m") !=
        0)
        return failed();
    for (const auto& [place, tree, is_directory] : opened) {
        fs::path directory = obstacle;
        for (const auto& part : place.parent_path().lexically_relative(obstacle)) {
            if (part == ".") continue;
            directory /= part;
            if (::mkdir(directory.c_str(), 0755) != 0 && errno != EEXIST) return failed();
            if (::chmod(directory.c_str(), 0755) != 0) return failed();
        }
        if (is_directory) {
            if (::mkdir(place.c_str(), 0755) != 0) return failed();
        } else {
            const Fd file{::open(place.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0444)};
            if (!file) return failed();
        }
        if (::move_mount(tree.get(), "", AT_FDCWD, place.c_str(), MOVE_MOUNT_F_EMPTY_PATH) != 0)
            return failed();
    }
    mount_attr attributes{};
    attributes.attr_set = MOUNT_ATTR_RDONLY;
    if (::mount_setattr(AT_FDCWD, obstacle.c_str(), 0, &attributes, sizeof attributes) != 0) return failed();
    return {};
}

}  // namespace

Result<void> open_passage(const std::vector<fs::path>& places, const ServerUser& user) {
    std::map<fs::path, std::vector<fs::path>> through;  // by obstacle
    {
        const ActingAs acting{user};
        if (!acting.acts()) return fail_errno(errno, "cannot try what " + user.name + " may enter");
        for (const auto& place : places) {
            if (const auto obstacle = obstacle_before(place)) through[*obstacle].push_back(place);
        }
    }
    if (through.empty()) return {};
    std::map<fs::path, std::vector<Opened>> opened;
    for (auto& [obstacle, found] : through) {
        std::ranges::sort(found);
        for (std::size_t i = 0; i < found.size(); ++i) {
            const bool is_inside = std::ranges::any_of(
                opened[obstacle], [&](const Opened& other) { return lies_in(found[i], other.place); });
            if (is_inside) continue;
            auto taken = take(found[i]);
            if (!taken) return fail(std::move(taken.error()));
            if (*taken) opened[obstacle].push_back(std::move(**taken));
        }
    }
    if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0)
        return fail_errno(errno, "cannot make a mount namespace");
    for (const auto& [obstacle, inside] : opened) {
        if (auto done = replace(obstacle, inside); !done) return done;
    }
    return {};
}

}  // namespace noid::privileged
