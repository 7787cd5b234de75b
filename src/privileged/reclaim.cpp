#include "privileged/reclaim.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/random.hpp"

namespace noid::privileged {

namespace {

constexpr std::size_t moved_name_bytes = 8;  // chance, so that nobody can have taken the name before

// By its name in `parent`: no link, no way out, no other mount.
Result<Fd> open_inside(const Fd& parent, const char* name) {
    open_how how{};
    how.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV;
    Fd directory{static_cast<int>(::syscall(SYS_openat2, parent.get(), name, &how, sizeof how))};
    if (!directory) return fail_errno(errno, "cannot open a directory that a VMM has made");
    return directory;
}

// Read as they are asked for: a VMM may have made more than there is memory for.
class Names {
  public:
    [[nodiscard]] static Result<Names> of(const Fd& directory) {
        Fd copy{::openat(directory.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
        if (!copy) return fail_errno(errno, "cannot list a directory");
        Names names;
        names.list_.reset(::fdopendir(copy.get()));
        if (!names.list_) return fail_errno(errno, "cannot list a directory");
        [[maybe_unused]] const int owned_by_list = copy.release();
        return names;
    }
    // nullptr at the end.
    [[nodiscard]] Result<const char*> next() {
        for (;;) {
            errno = 0;
            const dirent* entry = ::readdir(list_.get());
            if (entry == nullptr && errno != 0) return fail_errno(errno, "cannot list a directory");
            if (entry == nullptr) return nullptr;
            const std::string_view name{entry->d_name};
            if (name != "." && name != "..") return entry->d_name;
        }
    }

  private:
    struct Close {
        void operator()(DIR* list) const noexcept { ::closedir(list); }
    };
    std::unique_ptr<DIR, Close> list_;
};

bool is_gone(int error_number) {
    return error_number == ENOENT;
}

class Reclaiming {
  public:
    Reclaiming(const Fd& directory, const Owners& owners, std::size_t most)
        : top_{directory}, owners_{owners}, most_{most}, left_{most} {}

    // A directory in a directory is moved up to where the first one was, and its turn comes: so two
    // descriptors do for any depth, and there is no way back up that somebody could bend.
    Result<vmm::Reclaimed> run() {
        for (;;) {
            found_ = false;
            if (auto done = pass(); !done) return fail(std::move(done.error()));
            if (!found_) return vmm::Reclaimed::all;
            if (left_ == 0) return vmm::Reclaimed::a_part;
        }
    }

  private:
    [[nodiscard]] bool is_vmms(uid_t user) const {
        return user >= owners_.vmms.first && user - owners_.vmms.first < owners_.vmms.count;
    }

    // Whether there is still something to do, after as much of it as may be done, is left in found_.
    Result<void> pass() {
        auto names = Names::of(top_);
        if (!names) return fail(std::move(names.error()));
        std::size_t kept = 0;
        for (;;) {
            const auto name = names->next();
            if (!name) return fail(name.error());
            if (*name == nullptr) return {};
            struct stat status {};
            if (::fstatat(top_.get(), *name, &status, AT_SYMLINK_NOFOLLOW) != 0) {
                if (is_gone(errno)) continue;
                return fail_errno(errno, "cannot look at what a VMM has made");
            }
            if (!is_vmms(status.st_uid)) {
                if (++kept > most_) return fail(Errc::too_large, "too many files are in the directory");
                continue;
            }
            found_ = true;
            if (left_ == 0) return {};
            --left_;
            if (auto done = S_ISDIR(status.st_mode) ? remove_directory(*name) : remove_file(top_, *name);
                !done)
                return done;
        }
    }

    static Result<void> remove_file(const Fd& directory, const char* name) {
        if (::unlinkat(directory.get(), name, 0) != 0 && !is_gone(errno))
            return fail_errno(errno, "cannot remove a file that a VMM has made");
        return {};
    }

    // Of the top directory.
    Result<void> remove_directory(const char* name) {
        if (::unlinkat(top_.get(), name, AT_REMOVEDIR) == 0 || is_gone(errno)) return {};
        const auto inside = open_inside(top_, name);
        if (!inside) return fail(inside.error());
        struct stat status {};
        if (::fstat(inside->get(), &status) != 0)
            return fail_errno(errno, "cannot look at what a VMM has made");
        if (!is_vmms(status.st_uid)) return {};  // not what was looked at; the next pass sees what it is
        const auto is_empty = empty(*inside);
        if (!is_empty) return fail(is_empty.error());
        // It has been filled again if this fails, which the next pass sees, or only a part of it is gone.
        if (*is_empty && ::unlinkat(top_.get(), name, AT_REMOVEDIR) != 0 && !is_gone(errno) &&
            errno != ENOTEMPTY)
            return fail_errno(errno, "cannot remove a directory that a VMM has made");
        return {};
    }

    // False: not all of it could be dealt with yet.
    Result<bool> empty(const Fd& directory) {
        auto names = Names::of(directory);
        if (!names) return fail(std::move(names.error()));
        for (;;) {
            const auto name = names->next();
            if (!name) return fail(name.error());
            if (*name == nullptr) return true;
            if (left_ == 0) return false;
            --left_;
            if (::unlinkat(directory.get(), *name, 0) == 0 || is_gone(errno)) continue;
            if (errno != EISDIR) return fail_errno(errno, "cannot remove a file that a VMM has made");
            if (::unlinkat(directory.get(), *name, AT_REMOVEDIR) == 0 || is_gone(errno)) continue;
            if (errno != ENOTEMPTY) return fail_errno(errno, "cannot remove a directory that a VMM has made");
            if (auto moved = move_up(directory, *name); !moved) return fail(std::move(moved.error()));
        }
    }

    Result<void> move_up(const Fd& from, const char* name) {
        struct stat status {};
        if (::fstatat(from.get(), name, &status, AT_SYMLINK_NOFOLLOW) != 0) {
            if (is_gone(errno)) return {};
            return fail_errno(errno, "cannot look at what a VMM has made");
        }
        if (!is_vmms(status.st_uid) && status.st_uid != owners_.server)
            return fail(Errc::forbidden, "a directory that is neither a VMM's nor the server's");
        const std::string to = ".reclaim-" + random_hex(moved_name_bytes);
        if (::renameat2(from.get(), name, top_.get(), to.c_str(), RENAME_NOREPLACE) != 0 && !is_gone(errno))
            return fail_errno(errno, "cannot move a directory that a VMM has made");
        return {};
    }

    const Fd& top_;
    const Owners owners_;
    const std::size_t most_;
    std::size_t left_;    // entries that may still be touched
    bool found_ = false;  // something of a VMM's
};

}  // namespace

Result<vmm::Reclaimed> reclaim(const Fd& directory, const Owners& owners, std::size_t most) {
    return Reclaiming{directory, owners, most}.run();
}

}  // namespace noid::privileged
