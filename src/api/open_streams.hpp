#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "base/error.hpp"

namespace noid::api {

// The streams that are open by some user's token. They end when that token stops being valid; a request
// that is answered within its time is let finish. Thread-safe.
class OpenStreams {
  public:
    // Told why, on whatever thread, under no lock. May be called while the Entry is taken away.
    using End = std::function<void(Error why)>;

    // A stream is listed for as long as this lives.
    class Entry {
      public:
        Entry(OpenStreams& owner, std::uint64_t key) : owner_{owner}, key_{key} {}
        Entry(const Entry&) = delete;
        Entry& operator=(const Entry&) = delete;
        ~Entry() { owner_.remove(key_); }

      private:
        OpenStreams& owner_;
        std::uint64_t key_;
    };

    [[nodiscard]] std::unique_ptr<Entry> add(std::string user_name, End end);
    // Ends all streams of that user.
    void end_all(const std::string& user_name, const Error& why);

  private:
    struct Stream {
        std::string user_name;
        End end;
    };
    void remove(std::uint64_t key);

    std::mutex mutex_;
    std::uint64_t next_key_ = 1;
    std::map<std::uint64_t, Stream> streams_;
};

}  // namespace noid::api
