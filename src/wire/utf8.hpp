#pragma once

#include <string>
#include <string_view>

namespace noid::wire {

// Well-formed UTF-8 as RFC 3629 defines it: no overlong forms, no surrogates.
[[nodiscard]] bool is_utf8(std::string_view bytes) noexcept;

// The text with each malformed sequence replaced by U+FFFD, so that it may stand in JSON. What comes
// from a guest passes through here.
[[nodiscard]] std::string to_utf8(std::string_view bytes);

}  // namespace noid::wire
