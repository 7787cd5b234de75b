#pragma once

#include <string>
#include <string_view>

#include "base/error.hpp"

namespace noid::cli {

// What an answer of 400 or more means: "server error (404): VM 'x' not found", with the kind of
// failure that the status stands for. `body` is {"error": text} or anything else.
[[nodiscard]] Error error_of_answer(unsigned status, std::string_view body);

// Whether the value of X-Noid-Api-Version is ours.
[[nodiscard]] Result<void> check_api_version(std::string_view header);

}  // namespace noid::cli
