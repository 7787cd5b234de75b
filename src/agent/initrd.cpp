#include "agent/initrd.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <string>
#include <utility>

#include "agent/text_file.hpp"

namespace noid::agent {

namespace {

constexpr std::size_t max_order_bytes = 64 * 1024;

// Empties a directory of one file system; what is mounted in it is left alone.
void remove_contents(Fd directory, dev_t file_system) {
    const std::unique_ptr<DIR, int (*)(DIR*)> entries{::fdopendir(directory.get()), &::closedir};
    if (!entries) return;
    const int at = directory.release();  // `entries` owns it now
    while (const dirent* entry = ::readdir(entries.get())) {
        const std::string name = entry->d_name;
        if (name == "." || name == "..") continue;
        struct stat status {};
        if (::fstatat(at, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) continue;
        if (status.st_dev != file_system) continue;
        if (S_ISDIR(status.st_mode)) {
            Fd inner{::openat(at, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)};
            if (inner) remove_contents(std::move(inner), file_system);
            ::unlinkat(at, name.c_str(), AT_REMOVEDIR);
        } else {
            ::unlinkat(at, name.c_str(), 0);
        }
    }
}

}  // namespace

Result<Initrd> Initrd::open() {
    Fd root{::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (!root) return fail_errno(errno, "open the initrd");
    Fd modules{::openat(root.get(), "modules", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (!modules) return fail_errno(errno, "/modules");
    const auto text = read_text_file("/modules/order", max_order_bytes);
    if (!text) return fail(text.error());
    auto order = parse_module_order(*text);
    if (!order) return fail(order.error());
    return Initrd{std::move(root), std::move(modules), *std::move(order)};
}

void Initrd::load(ModuleStage stage) const {
    load_modules(modules_.get(), order_, stage);
}

void Initrd::remove() const {
    struct stat status {};
    Fd root{::openat(root_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (!root || ::fstat(root.get(), &status) != 0) return;
    remove_contents(std::move(root), status.st_dev);
}

}  // namespace noid::agent
