#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>

#include "vm/engine.hpp"

namespace noid::api {

// Durations, counted in buckets as Prometheus has them. Thread-safe.
class Histogram {
  public:
    void observe(std::chrono::nanoseconds duration) noexcept;
    void append_to(std::string& page, std::string_view name, std::string_view help) const;

  private:
    static constexpr std::array<double, 12> bounds_{0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60};
    std::array<std::atomic<std::uint64_t>, bounds_.size() + 1> counts_{};
    std::atomic<std::uint64_t> sum_us_{0};
};

// What GET /metrics shows. Thread-safe.
class Metrics {
  public:
    void count_request(unsigned status) noexcept;
    void count_creation(std::chrono::nanoseconds duration) noexcept { creations_.observe(duration); }
    void count_checkpoint(std::chrono::nanoseconds duration) noexcept { checkpoints_.observe(duration); }
    std::atomic<std::int64_t> connections{0};
    std::atomic<std::int64_t> web_sockets{0};

    // The page in Prometheus' text format, version 0.0.4. What has a VM's name in it is only of the VMs of
    // `reader`; nullptr: of all. It is at most `most_vms_named` VMs; the page says how many more there are.
    [[nodiscard]] std::string page(const vm::EngineNumbers& numbers, const std::string* reader);
    static constexpr std::size_t most_vms_named = 1000;

  private:
    std::array<std::atomic<std::uint64_t>, 600> requests_{};  // by status
    Histogram creations_;
    Histogram checkpoints_;
    std::mutex mutex_;  // of what follows: the CPU share is that since the page before
    double cpu_seconds_before_ = 0;
    std::chrono::steady_clock::time_point before_ = std::chrono::steady_clock::now();
};

}  // namespace noid::api
