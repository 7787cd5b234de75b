#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "channel/session.hpp"
#include "vm/vm.hpp"

namespace noid::api {

// The guest sessions that requests of this server are attached to, so that another request (a signal,
// a kill) can reach one without taking it away from its reader. Thread-safe.
class LiveSessions {
  public:
    // Keeps a session listed for as long as it lives.
    class Listing {
      public:
        Listing(LiveSessions& owner, std::uint64_t key) : owner_{owner}, key_{key} {}
        Listing(const Listing&) = delete;
        Listing& operator=(const Listing&) = delete;
        ~Listing() { owner_.remove(key_); }

      private:
        LiveSessions& owner_;
        std::uint64_t key_;
    };

    [[nodiscard]] Listing list(const vm::Vm& machine, const std::shared_ptr<channel::Session>& session,
                               proto::SessionId id);
    // nullptr when nobody here is attached to it.
    [[nodiscard]] std::shared_ptr<channel::Session> find(const vm::Vm& machine, proto::SessionId id) const;

  private:
    struct Entry {
        const vm::Vm* machine = nullptr;  // compared, never followed
        proto::SessionId id;
        std::weak_ptr<channel::Session> session;
    };
    void remove(std::uint64_t key);

    mutable std::mutex mutex_;
    std::uint64_t next_key_ = 1;
    std::unordered_map<std::uint64_t, Entry> entries_;  // as many as attached sessions
};

}  // namespace noid::api
