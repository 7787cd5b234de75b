#include "vm/memory_pressure.hpp"

#include <fcntl.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/file.hpp"

namespace noid::vm {

namespace {

constexpr std::size_t largest_meminfo = 64 << 10;
// Microseconds of stall, within microseconds. The kernel wants the NUL, and takes windows other than of two
// seconds only from who has CAP_SYS_RESOURCE.
constexpr char trigger[] = "some 200000 2000000";

// "MemAvailable:   12345 kB"
std::optional<MiB> value_of(std::string_view text, std::string_view name) {
    const auto found = text.find(name);
    if (found == std::string_view::npos) return std::nullopt;
    text.remove_prefix(found + name.size());
    text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
    std::uint64_t kib = 0;
    if (std::from_chars(text.data(), text.data() + text.size(), kib).ec != std::errc{}) return std::nullopt;
    return MiB{kib / 1024};
}

}  // namespace

Result<HostMemory> host_memory() {
    const auto text = read_file("/proc/meminfo", largest_meminfo);
    if (!text) return fail(text.error());
    const auto total = value_of(*text, "MemTotal:");
    const auto available = value_of(*text, "MemAvailable:");
    if (!total || !available)
        return fail(Errc::unsupported, "the kernel does not say how much memory there is");
    return HostMemory{*total, *available};
}

Result<MemoryPressure> MemoryPressure::watch(asio::any_io_executor strand) {
    auto file = open_file("/proc/pressure/memory", O_RDWR | O_NONBLOCK);
    if (!file) return fail(std::move(file.error()));
    if (auto armed = write_all(*file, std::string_view{trigger, sizeof trigger}); !armed)
        return fail(std::move(armed.error()));
    return MemoryPressure{asio::posix::stream_descriptor{std::move(strand), file->release()}};
}

Awaitable<Result<void>> MemoryPressure::felt() {
    boost::system::error_code error;
    // The kernel tells by POLLPRI.
    co_await trigger_.async_wait(asio::posix::stream_descriptor::wait_error,
                                 asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return fail_errno(error.value(), "watch the host's memory");
    co_return Result<void>{};
}

}  // namespace noid::vm
