#pragma once

#include <cstdint>

namespace noid::net {

struct Traffic {
    std::uint64_t bytes = 0;
    std::uint64_t packets = 0;
    bool operator==(const Traffic&) const = default;
};

}  // namespace noid::net
