#pragma once

#include <string>

#include "base/error.hpp"

namespace noid::cli {

// `message` with the failure below it, as the user reads it:
//     message
//
//     Caused by:
//         what `reason` says
[[nodiscard]] Error caused_by(const Error& reason, std::string message);

// The text for a failed command on stderr: "Error: ...", or a JSON object when `json`.
[[nodiscard]] std::string describe(const Error& error, bool json);

// `text` with control characters (a guest or a label may hold terminal escapes) made visible, as
// \n, \t or \x1b. UTF-8 stays as it is.
[[nodiscard]] std::string printable(std::string_view text);

}  // namespace noid::cli
