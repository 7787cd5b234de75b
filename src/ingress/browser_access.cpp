#include "ingress/browser_access.hpp"

#include <algorithm>
#include <utility>

#include "base/random.hpp"
#include "vm/token.hpp"

namespace noid::ingress {

namespace {

constexpr std::size_t secret_bytes = 32;
constexpr std::size_t secret_digits = 2 * secret_bytes;

}  // namespace

std::string BrowserAccess::issue(Kind kind, std::string user, std::string label, Clock::time_point until) {
    std::string secret = random_hex(secret_bytes);
    if (passes_.size() >= max_passes) passes_.pop_back();
    passes_.push_front(Pass{kind, vm::sha256_hex(secret), std::move(user), std::move(label), until});
    return secret;
}

std::string BrowserAccess::issue_ticket(const std::string& user, const std::string& label,
                                        Clock::time_point now) {
    const std::lock_guard lock{mutex_};
    std::erase_if(passes_, [&](const Pass& pass) { return pass.until <= now; });
    return issue(Kind::ticket, user, label, now + ticket_life);
}

std::optional<std::string> BrowserAccess::redeem(std::string_view ticket, std::string_view label,
                                                 Clock::time_point now) {
    if (ticket.size() != secret_digits) return std::nullopt;
    const std::string digest = vm::sha256_hex(ticket);
    const std::lock_guard lock{mutex_};
    const auto found = std::find_if(passes_.begin(), passes_.end(), [&](const Pass& pass) {
        return pass.kind == Kind::ticket && pass.digest == digest && pass.label == label && now < pass.until;
    });
    if (found == passes_.end()) return std::nullopt;
    std::string user = std::move(found->user);
    passes_.erase(found);
    return issue(Kind::cookie, std::move(user), std::string{label}, now + cookie_life);
}

bool BrowserAccess::admits(std::string_view cookie, std::string_view label, Clock::time_point now) const {
    if (cookie.size() != secret_digits) return false;
    const std::string digest = vm::sha256_hex(cookie);
    const std::lock_guard lock{mutex_};
    return std::any_of(passes_.begin(), passes_.end(), [&](const Pass& pass) {
        return pass.kind == Kind::cookie && pass.digest == digest && pass.label == label && now < pass.until;
    });
}

void BrowserAccess::revoke_user(std::string_view user) {
    const std::lock_guard lock{mutex_};
    std::erase_if(passes_, [&](const Pass& pass) { return pass.user == user; });
}

void BrowserAccess::revoke_label(std::string_view label) {
    const std::lock_guard lock{mutex_};
    std::erase_if(passes_, [&](const Pass& pass) { return pass.label == label; });
}

}  // namespace noid::ingress
