#include "ingress/visits.hpp"

#include <utility>
#include <vector>

namespace noid::ingress {

std::unique_ptr<Visits::Visit> Visits::enter(const vm::Vm& vm, std::uint16_t guest_port,
                                             std::function<void()> end) {
    const std::lock_guard lock{mutex_};
    std::size_t& count = counts_[&vm];
    if (count >= limit_) return nullptr;
    ++count;
    const std::uint64_t key = next_key_++;
    entries_.emplace(key, Entry{&vm, guest_port, std::move(end)});
    return std::make_unique<Visit>(*this, key);
}

void Visits::end(const vm::Vm* vm, std::uint16_t guest_port) {
    std::vector<std::function<void()>> ends;
    {
        const std::lock_guard lock{mutex_};
        for (const auto& [key, entry] : entries_) {
            if (entry.vm == vm && entry.guest_port == guest_port) ends.push_back(entry.end);
        }
    }
    for (const auto& end_one : ends) end_one();
}

void Visits::end_all() {
    std::vector<std::function<void()>> ends;
    {
        const std::lock_guard lock{mutex_};
        for (const auto& [key, entry] : entries_) ends.push_back(entry.end);
    }
    for (const auto& end_one : ends) end_one();
}

void Visits::leave(std::uint64_t key) {
    const std::lock_guard lock{mutex_};
    const auto found = entries_.find(key);
    if (found == entries_.end()) return;
    const auto count = counts_.find(found->second.vm);
    if (count != counts_.end() && --count->second == 0) counts_.erase(count);
    entries_.erase(found);
}

}  // namespace noid::ingress
