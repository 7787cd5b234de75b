#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>

#include "base/file.hpp"
#include "qemu/preload/preload.hpp"

// The library's file between two labels.
asm(R"(
    .pushsection .rodata
    .globl noid_preload_begin
    .globl noid_preload_end
noid_preload_begin:
    .incbin ")" NOID_PRELOAD R"("
noid_preload_end:
    .popsection
)");
extern "C" const char noid_preload_begin[];
extern "C" const char noid_preload_end[];

namespace noid::qemu {

Result<void> put_preload(const Fd& directory) {
    // A new file: one that is there may be mapped by a QEMU that ends just now.
    if (::unlinkat(directory.get(), preload_file, 0) != 0 && errno != ENOENT)
        return fail_errno(errno, std::string{"cannot remove the old "} + preload_file);
    const auto file = open_file_at(directory, preload_file, O_WRONLY | O_CREAT | O_EXCL);
    if (!file) return fail(file.error());
    if (::fchmod(file->get(), 0444) != 0)
        return fail_errno(errno, std::string{"cannot open "} + preload_file);
    return write_all(*file, {noid_preload_begin, noid_preload_end});
}

}  // namespace noid::qemu
