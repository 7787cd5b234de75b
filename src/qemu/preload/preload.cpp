#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>

#include "base/file.hpp"
#include "qemu/preload/open_memory.hpp"

// The library's file between two labels.
asm(R"(
    .pushsection .rodata
    .globl noid_open_memory_begin
    .globl noid_open_memory_end
noid_open_memory_begin:
    .incbin ")" NOID_OPEN_MEMORY R"("
noid_open_memory_end:
    .popsection
)");
extern "C" const char noid_open_memory_begin[];
extern "C" const char noid_open_memory_end[];

namespace noid::qemu {

Result<void> put_open_memory(const Fd& directory) {
    // A new file: one that is there may be mapped by a QEMU that ends just now.
    if (::unlinkat(directory.get(), open_memory_file, 0) != 0 && errno != ENOENT)
        return fail_errno(errno, std::string{"cannot remove the old "} + open_memory_file);
    const auto file = open_file_at(directory, open_memory_file, O_WRONLY | O_CREAT | O_EXCL);
    if (!file) return fail(file.error());
    if (::fchmod(file->get(), 0444) != 0)
        return fail_errno(errno, std::string{"cannot open "} + open_memory_file);
    return write_all(*file, {noid_open_memory_begin, noid_open_memory_end});
}

}  // namespace noid::qemu
