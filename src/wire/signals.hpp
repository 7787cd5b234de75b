#pragma once

#include <optional>
#include <string_view>

namespace noid::wire {

// "TERM", "SIGTERM" or "15" (any case) as Linux numbers it, 1 to 64; nullopt for anything else.
[[nodiscard]] std::optional<int> parse_signal(std::string_view text) noexcept;
// "SIGTERM" for 15; empty for a number without a name.
[[nodiscard]] std::string_view signal_name(int number) noexcept;

}  // namespace noid::wire
