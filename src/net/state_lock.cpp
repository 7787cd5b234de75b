#include "net/state_lock.hpp"

#include <fcntl.h>

#include <sys/file.h>

#include <cerrno>

#include "base/file.hpp"

namespace noid::net {

Result<Fd> take_state_lock(const std::filesystem::path& state_dir) {
    std::error_code error;
    std::filesystem::create_directories(state_dir, error);
    if (error) return fail_errno(error.value(), "cannot make " + state_dir.string());
    auto lock = open_file(state_dir / "lock", O_RDWR | O_CREAT, 0600);
    if (!lock) return lock;
    if (::flock(lock->get(), LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK) return fail(Errc::conflict, "another noid-netd runs on this host");
        return fail_errno(errno, "cannot lock the state directory");
    }
    return lock;
}

}  // namespace noid::net
