// Loaded into a confined QEMU that wakes from a snapshot (LD_PRELOAD). QEMU maps the snapshot's memory
// private but opens the file for reading and writing (backends/hostmem-file.c, before 8.2 with no other way),
// and it may not write there: other machines wake from the same file. So that one file is opened for reading.
// Stands alone: no library of ours, no sanitizer.
#include <fcntl.h>
#include <sys/types.h>

#include <cstdarg>
#include <cstdlib>
#include <cstring>

namespace {

int open_for_reading_if_memory(const char* path, int flags, mode_t mode) {
    const char* memory = std::getenv("NOID_MEMORY_FILE");
    if (memory != nullptr && std::strcmp(path, memory) == 0) flags = (flags & ~O_ACCMODE) | O_RDONLY;
    return ::openat64(AT_FDCWD, path, flags, mode);
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
