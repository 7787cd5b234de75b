#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>

namespace noid::cli {

// The part of a byte stream that the other side may still ask for again. Offsets count from the
// stream's first byte. Not bounded by itself: the owner stops to append when size() is enough.
class ReplayBuffer {
  public:
    ReplayBuffer() = default;
    // Begins in the middle of a stream.
    explicit ReplayBuffer(std::uint64_t offset) : first_chunk_{offset}, begin_{offset}, end_{offset} {}

    void append(std::string bytes);
    // Forgets what is below `offset`. Offsets beyond the end count as the end.
    void forget_below(std::uint64_t offset);

    // Bytes from `offset`, as far as they lie together; empty at the end, and outside what is kept.
    [[nodiscard]] std::string_view from(std::uint64_t offset) const;

    [[nodiscard]] std::uint64_t begin() const { return begin_; }
    [[nodiscard]] std::uint64_t end() const { return end_; }
    [[nodiscard]] std::uint64_t size() const { return end_ - begin_; }

  private:
    std::deque<std::string> chunks_;
    std::uint64_t first_chunk_ = 0;  // offset of chunks_.front(); at most begin_
    std::uint64_t begin_ = 0;
    std::uint64_t end_ = 0;
};

}  // namespace noid::cli
