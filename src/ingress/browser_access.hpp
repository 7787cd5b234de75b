#pragma once

#include <chrono>
#include <cstddef>
#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

namespace noid::ingress {

// How a browser, which sends no token, gets to see a guest's port: its owner asks for a link that holds
// a ticket; the first visit trades that for a cookie. Both are random, good for one host name only, kept
// as hashes and in memory: a restart of the server, a new token of the user, or withdrawing the port
// ends them. Thread-safe; bounded.
class BrowserAccess {
  public:
    using Clock = std::chrono::steady_clock;
    static constexpr std::chrono::seconds ticket_life{60};
    static constexpr std::chrono::seconds cookie_life{12 * 3600};
    static constexpr std::size_t max_passes = 4096;  // the oldest is forgotten for a new one

    // A ticket for the port that `label` names, asked for by `user`.
    [[nodiscard]] std::string issue_ticket(const std::string& user, const std::string& label,
                                           Clock::time_point now);
    // The cookie for a ticket that was not used before; nullopt otherwise.
    [[nodiscard]] std::optional<std::string> redeem(std::string_view ticket, std::string_view label,
                                                    Clock::time_point now);
    [[nodiscard]] bool admits(std::string_view cookie, std::string_view label, Clock::time_point now) const;

    void revoke_user(std::string_view user);
    void revoke_label(std::string_view label);

  private:
    enum class Kind { ticket, cookie };
    struct Pass {
        Kind kind = Kind::ticket;
        std::string digest;
        std::string user;
        std::string label;
        Clock::time_point until;
    };
    [[nodiscard]] std::string issue(Kind kind, std::string user, std::string label, Clock::time_point until);

    mutable std::mutex mutex_;
    std::list<Pass> passes_;  // the newest in front
};

}  // namespace noid::ingress
