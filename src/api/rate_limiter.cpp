#include "api/rate_limiter.hpp"

namespace noid::api {

void FailureWindow::count_failure(std::string_view key, Clock::time_point now) {
    while (!entries_.empty() && now - entries_.front().began >= window_) forget_oldest();
    if (const auto found = index_.find(key); found != index_.end()) {
        ++found->second->failures;
        return;
    }
    if (entries_.size() >= capacity_) forget_oldest();
    entries_.push_back(Entry{std::string{key}, now, 1});
    const auto added = std::prev(entries_.end());
    index_.emplace(added->key, added);
}

std::optional<std::chrono::seconds> FailureWindow::blocked_for(std::string_view key,
                                                               Clock::time_point now) const {
    const Entry* entry = find(key, now);
    if (entry == nullptr || entry->failures < limit_) return std::nullopt;
    return std::chrono::ceil<std::chrono::seconds>(entry->began + window_ - now);
}

bool FailureWindow::has_failures(std::string_view key, Clock::time_point now) const {
    return find(key, now) != nullptr;
}

const FailureWindow::Entry* FailureWindow::find(std::string_view key, Clock::time_point now) const {
    const auto found = index_.find(key);
    if (found == index_.end() || now - found->second->began >= window_) return nullptr;
    return &*found->second;
}

void FailureWindow::forget_oldest() {
    index_.erase(entries_.front().key);
    entries_.pop_front();
}

}  // namespace noid::api
