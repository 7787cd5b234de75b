#include "proto/byte_ring.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

namespace noid::proto {
namespace {

constexpr std::size_t smallest = 4096;
constexpr std::size_t kept_when_empty = 256 * 1024;

}  // namespace

std::span<char> ByteRing::prepare(std::size_t wanted) {
    wanted = std::min(wanted, room());
    if (size_ + wanted > capacity_) grow(size_ + wanted);
    if (wanted == 0) return {};
    const std::size_t end = (begin_ + size_) & (capacity_ - 1);
    const std::size_t contiguous = end < begin_ ? begin_ - end : capacity_ - end;
    return {bytes_.get() + end, std::min(wanted, contiguous)};
}

std::size_t ByteRing::append(std::string_view bytes) {
    std::size_t taken = 0;
    while (taken < bytes.size()) {
        const auto space = prepare(bytes.size() - taken);
        if (space.empty()) break;
        std::memcpy(space.data(), bytes.data() + taken, space.size());
        commit(space.size());
        taken += space.size();
    }
    return taken;
}

std::string_view ByteRing::view(std::size_t from, std::size_t most) const noexcept {
    if (from == size_) return {};
    const std::size_t start = (begin_ + from) & (capacity_ - 1);
    return {bytes_.get() + start, std::min({most, size_ - from, capacity_ - start})};
}

void ByteRing::discard(std::size_t count) noexcept {
    size_ -= count;
    if (size_ > 0) {
        begin_ = (begin_ + count) & (capacity_ - 1);
        return;
    }
    begin_ = 0;
    if (capacity_ > kept_when_empty) {
        bytes_.reset();
        capacity_ = 0;
    }
}

void ByteRing::grow(std::size_t wanted) {
    const std::size_t capacity = std::max(smallest, std::bit_ceil(wanted));
    auto bytes = std::make_unique_for_overwrite<char[]>(capacity);
    const std::string_view first = view(0, size_);
    const std::string_view second = view(first.size(), size_);
    if (!first.empty()) std::memcpy(bytes.get(), first.data(), first.size());
    if (!second.empty()) std::memcpy(bytes.get() + first.size(), second.data(), second.size());
    bytes_ = std::move(bytes);
    capacity_ = capacity;
    begin_ = 0;
}

}  // namespace noid::proto
