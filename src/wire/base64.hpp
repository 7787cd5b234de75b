#pragma once

#include <string>
#include <string_view>

#include "base/error.hpp"

namespace noid::wire {

// RFC 4648 base64 with padding, without line breaks.
[[nodiscard]] std::string to_base64(std::string_view bytes);
// invalid when the text is anything but that.
[[nodiscard]] Result<std::string> from_base64(std::string_view text);

}  // namespace noid::wire
