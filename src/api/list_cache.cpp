#include "api/list_cache.hpp"

#include <utility>

namespace noid::api {

namespace {

constexpr std::size_t most_bytes = 8 * 1024 * 1024;

}  // namespace

std::shared_ptr<const std::string> ListCache::find(const std::string& user_id, Version version) const {
    const std::lock_guard lock{mutex_};
    const auto found = entries_.find(user_id);
    if (found == entries_.end() || found->second.version != version) return nullptr;
    return found->second.body;
}

void ListCache::keep(const std::string& user_id, Version version, std::string body) {
    const std::lock_guard lock{mutex_};
    if (const auto old = entries_.find(user_id); old != entries_.end()) {
        bytes_ -= old->second.body->size();
        entries_.erase(old);
    }
    // Entries are worth one second: starting over costs less than keeping an order.
    if (bytes_ + body.size() > most_bytes) {
        entries_.clear();
        bytes_ = 0;
    }
    bytes_ += body.size();
    entries_.emplace(user_id, Entry{version, std::make_shared<const std::string>(std::move(body))});
}

}  // namespace noid::api
