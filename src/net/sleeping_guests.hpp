#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "base/async.hpp"
#include "base/error.hpp"
#include "net/line_feed.hpp"
#include "net/slot_pool.hpp"

namespace noid::net {

// Listens, for guests that sleep, whether somebody sends to them, and tells the server that has them. Not
// more than once in 10 s for one guest, and only that server. What nobody was there to hear is told to the
// next watch of that server. Runs on one executor.
class SleepingGuests {
  public:
    explicit SleepingGuests(asio::any_io_executor executor) : executor_{std::move(executor)} {}
    SleepingGuests(const SleepingGuests&) = delete;
    SleepingGuests& operator=(const SleepingGuests&) = delete;
    ~SleepingGuests();

    void handle(GuestFellAsleep event);
    void handle(const GuestWoke& event) { forget(event.index); }
    void handle(const GuestLeft& event) { forget(event.index); }
    void handle(const SlotGone& event) { forget(event.index); }

    // Lines as knock_line() makes them, for guests that this user got slots for in this server's name. The
    // older watch of the same server ends. limit_exceeded: the user watches for too many servers.
    [[nodiscard]] Result<std::shared_ptr<LineFeed>> watch(uid_t user, const std::string& server);

  private:
    using Clock = std::chrono::steady_clock;
    using Owner = std::pair<uid_t, std::string>;
    struct Sleeper;
    class Knocks;

    void forget(std::uint32_t index);
    void knocked(Sleeper& sleeper);
    Awaitable<void> listen(std::shared_ptr<Sleeper> sleeper);

    asio::any_io_executor executor_;
    std::map<std::uint32_t, std::shared_ptr<Sleeper>> sleepers_;
    std::map<Owner, std::weak_ptr<Knocks>> watchers_;
};

}  // namespace noid::net
