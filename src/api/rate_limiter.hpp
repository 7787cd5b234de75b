#pragma once

#include <chrono>
#include <cstddef>
#include <list>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

namespace noid::api {

// Counts failures per key in windows that begin with a key's first failure. After `limit` failures
// the key is blocked until its window is over. Holds at most `capacity` keys: the one whose window
// began first is forgotten for a new one. Not thread-safe; time is an argument.
class FailureWindow {
  public:
    using Clock = std::chrono::steady_clock;

    FailureWindow(std::size_t limit, std::chrono::seconds window, std::size_t capacity)
        : limit_{limit}, window_{window}, capacity_{capacity} {}

    void count_failure(std::string_view key, Clock::time_point now);
    // How long the key stays blocked; nullopt when it is not.
    [[nodiscard]] std::optional<std::chrono::seconds> blocked_for(std::string_view key,
                                                                  Clock::time_point now) const;
    [[nodiscard]] bool has_failures(std::string_view key, Clock::time_point now) const;
    [[nodiscard]] std::size_t size() const noexcept { return entries_.size(); }

  private:
    struct Entry {
        std::string key;
        Clock::time_point began;
        std::size_t failures = 0;
    };
    [[nodiscard]] const Entry* find(std::string_view key, Clock::time_point now) const;
    void forget_oldest();

    std::size_t limit_;
    std::chrono::seconds window_;
    std::size_t capacity_;
    std::list<Entry> entries_;                                                // ordered by `began`
    std::unordered_map<std::string_view, std::list<Entry>::iterator> index_;  // views into entries_
};

}  // namespace noid::api
