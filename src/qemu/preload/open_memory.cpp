// Of the library that is loaded into QEMU (preload.hpp), for one that wakes from a snapshot. QEMU maps the
// snapshot's memory private but opens the file for reading and writing (backends/hostmem-file.c, before 8.2
// with no other way), and it may not write there: other machines wake from the same file. So that one file is
// opened for reading. And memory that the guest gives back becomes no hole in it, which is what QEMU tries
// first (softmmu/physmem.c, ram_block_discard_range): that the guest's own pages go, which is what QEMU does
// next, is all that is to be had. Stands alone: no library of ours, no sanitizer.
#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include <cstdarg>
#include <cstdlib>
#include <cstring>

namespace {

int memory_file = -1;  // QEMU keeps it open

int open_for_reading_if_memory(const char* path, int flags, mode_t mode) {
    const char* memory = std::getenv("NOID_MEMORY_FILE");
    const bool is_memory = memory != nullptr && std::strcmp(path, memory) == 0;
    if (is_memory) flags = (flags & ~O_ACCMODE) | O_RDONLY;
    const int file = ::openat64(AT_FDCWD, path, flags, mode);
    if (is_memory && file >= 0) memory_file = file;
    return file;
}

}  // namespace

extern "C" int open64(const char* path, int flags, ...) {
    mode_t mode = 0;
    if ((flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE) {
        std::va_list arguments;
        va_start(arguments, flags);
        mode = va_arg(arguments, mode_t);
        va_end(arguments);
    }
    return open_for_reading_if_memory(path, flags, mode);
}

// What open() with two arguments is compiled to where the C library checks calls (_FORTIFY_SOURCE).
extern "C" int __open64_2(const char* path, int flags) {  // NOLINT(bugprone-reserved-identifier)
    return open_for_reading_if_memory(path, flags, 0);
}

extern "C" int fallocate64(int file, int mode, off64_t offset, off64_t size) {
    if (file == memory_file && (mode & FALLOC_FL_PUNCH_HOLE) != 0) return 0;
    return static_cast<int>(::syscall(SYS_fallocate, file, mode, offset, size));
}
