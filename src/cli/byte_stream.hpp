#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string_view>

#include "base/async.hpp"
#include "base/error.hpp"

namespace noid::cli {

// Fills the span from its start and says how many bytes; 0 is the end.
using ByteSource = std::function<Awaitable<Result<std::size_t>>(std::span<char>)>;
// Takes all of the bytes, which live until it returns; how long that takes is the flow control.
using ByteSink = std::function<Awaitable<Result<void>>(std::string_view)>;

inline constexpr std::size_t transfer_chunk = 64 * 1024;

}  // namespace noid::cli
