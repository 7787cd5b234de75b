#include "api/request_log.hpp"

#include <fmt/format.h>

#include <atomic>
#include <cstdint>

#include "base/log.hpp"
#include "base/random.hpp"

namespace noid::api {

namespace {

constexpr std::size_t most_forwarded = 128;

}  // namespace

std::string next_request_id() {
    static const std::string run = random_hex(4);
    static std::atomic<std::uint32_t> counter{0};
    return fmt::format("{}{:08x}", run, counter.fetch_add(1, std::memory_order_relaxed));
}

void log_request(const RequestRecord& record, unsigned status, std::string_view remote,
                 std::string_view forwarded) {
    if (!log::enabled(log::Level::info)) return;
    const auto elapsed =
        std::chrono::duration_cast<std::chrono::microseconds>(RequestRecord::Clock::now() - record.began);
    const auto milliseconds = fmt::format("{}.{:03}", elapsed.count() / 1000, elapsed.count() % 1000);
    if (forwarded.empty()) forwarded = "-";
    log::info("request", {{"id", record.id},
                          {"user", record.user},
                          {"method", name_of(record.method)},
                          {"path", record.path},
                          {"status", std::to_string(status)},
                          {"ms", milliseconds},
                          {"remote", remote},
                          {"fwd", forwarded.substr(0, most_forwarded)}});
}

}  // namespace noid::api
