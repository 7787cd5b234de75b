#include "proto/messages.hpp"

#include <fmt/format.h>

#include <charconv>

namespace noid::proto {

std::string to_string(SessionId id) {
    return fmt::format("{:016x}", id.value);
}

std::optional<SessionId> parse_session_id(std::string_view text) noexcept {
    if (text.size() != 16) return std::nullopt;
    SessionId id;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id.value, 16);
    if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    return id;
}

}  // namespace noid::proto
