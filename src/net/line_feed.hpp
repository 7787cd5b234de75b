#pragma once

#include <optional>
#include <string>

#include "base/async.hpp"

namespace noid::net {

// Lines that follow an answer, as things happen. Used on one executor.
class LineFeed {
  public:
    LineFeed() = default;
    LineFeed(const LineFeed&) = delete;
    LineFeed& operator=(const LineFeed&) = delete;
    virtual ~LineFeed() = default;

    // The next line, without the newline, when there is one; nullopt: there will be none any more.
    virtual Awaitable<std::optional<std::string>> next() = 0;
    // next() gives nullopt from now on.
    virtual void close() = 0;
};

}  // namespace noid::net
