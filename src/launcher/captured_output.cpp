#include "launcher/captured_output.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/file.hpp"

namespace noid::launcher {

Result<CapturedOutput> CapturedOutput::create(std::size_t limit) {
    Fd memory{::memfd_create("output", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
    if (!memory) return fail_errno(errno, "cannot make a buffer for output");
    if (::ftruncate(memory.get(), static_cast<off_t>(limit)) != 0 ||
        ::fcntl(memory.get(), F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) != 0)
        return fail_errno(errno, "cannot bound the buffer for output");
    return CapturedOutput{std::move(memory)};
}

Result<CapturedOutput> CapturedOutput::of_process(pid_t pid) {
    // The process chooses what is there: nothing that waits for somebody when it is opened.
    auto memory = open_file("/proc/" + std::to_string(pid) + "/fd/2", O_RDONLY | O_NONBLOCK | O_NOCTTY);
    if (!memory) return fail(std::move(memory.error()));
    if (::fcntl(memory->get(), F_GET_SEALS) < 0) return fail(Errc::not_found, "output is not captured");
    return CapturedOutput{std::move(*memory)};
}

Result<CapturedOutput> CapturedOutput::over(Fd memory) {
    if (::fcntl(memory.get(), F_GET_SEALS) < 0) return fail(Errc::corrupt, "this is no captured output");
    return CapturedOutput{std::move(memory)};
}

Result<Fd> CapturedOutput::writer() const {
    Fd copy{::fcntl(memory_.get(), F_DUPFD_CLOEXEC, 3)};
    if (!copy) return fail_errno(errno, "cannot copy a descriptor");
    return copy;
}

std::string CapturedOutput::text(std::size_t limit) const {
    struct stat status {};
    if (::fstat(memory_.get(), &status) != 0) return {};
    std::string all(static_cast<std::size_t>(status.st_size), '\0');
    const ssize_t got = ::pread(memory_.get(), all.data(), all.size(), 0);
    all.resize(static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    // The file has its full size from the beginning; what was not written reads as zeros.
    while (!all.empty() && all.back() == '\0') all.pop_back();
    if (all.size() > limit) all.erase(0, all.size() - limit);
    return all;
}

}  // namespace noid::launcher
