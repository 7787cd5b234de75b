#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>

namespace noid::api {

// The newest answer to "all my VMs" of each user: clients ask it again and again, and a hundred VMs are
// a lot of JSON. An entry is good for one revision of the tenant and one second, since the list shows
// uptimes. Thread-safe; bounded.
class ListCache {
  public:
    struct Version {
        std::uint64_t revision = 0;
        std::int64_t second = 0;
        bool operator==(const Version&) const = default;
    };

    // nullptr when that version is not here.
    [[nodiscard]] std::shared_ptr<const std::string> find(const std::string& user_id, Version version) const;
    void keep(const std::string& user_id, Version version, std::string body);

  private:
    struct Entry {
        Version version;
        std::shared_ptr<const std::string> body;
    };
    mutable std::mutex mutex_;
    std::unordered_map<std::string, Entry> entries_;  // by user
    std::size_t bytes_ = 0;                           // of all bodies
};

}  // namespace noid::api
