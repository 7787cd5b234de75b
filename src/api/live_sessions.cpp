#include "api/live_sessions.hpp"

namespace noid::api {

LiveSessions::Listing LiveSessions::list(const vm::Vm& machine,
                                         const std::shared_ptr<channel::Session>& session,
                                         proto::SessionId id) {
    const std::lock_guard lock{mutex_};
    const std::uint64_t key = next_key_++;
    entries_.emplace(key, Entry{&machine, id, session});
    return Listing{*this, key};
}

std::shared_ptr<channel::Session> LiveSessions::find(const vm::Vm& machine, proto::SessionId id) const {
    const std::lock_guard lock{mutex_};
    std::uint64_t newest = 0;
    std::shared_ptr<channel::Session> found;
    for (const auto& [key, entry] : entries_) {
        if (entry.machine != &machine || entry.id != id || key < newest) continue;
        if (auto session = entry.session.lock()) {
            newest = key;
            found = std::move(session);
        }
    }
    return found;
}

void LiveSessions::remove(std::uint64_t key) {
    const std::lock_guard lock{mutex_};
    entries_.erase(key);
}

}  // namespace noid::api
