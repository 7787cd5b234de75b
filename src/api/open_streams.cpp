#include "api/open_streams.hpp"

#include <utility>
#include <vector>

namespace noid::api {

std::unique_ptr<OpenStreams::Entry> OpenStreams::add(std::string user_name, End end) {
    const std::lock_guard lock{mutex_};
    const std::uint64_t key = next_key_++;
    streams_.emplace(key, Stream{std::move(user_name), std::move(end)});
    return std::make_unique<Entry>(*this, key);
}

void OpenStreams::end_all(const std::string& user_name, const Error& why) {
    std::vector<End> ends;
    {
        const std::lock_guard lock{mutex_};
        for (const auto& [key, stream] : streams_) {
            if (stream.user_name == user_name) ends.push_back(stream.end);
        }
    }
    for (const End& end : ends) end(why);
}

void OpenStreams::remove(std::uint64_t key) {
    const std::lock_guard lock{mutex_};
    streams_.erase(key);
}

}  // namespace noid::api
