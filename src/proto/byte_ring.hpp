#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>

namespace noid::proto {

// A queue of bytes with a fixed bound. Memory grows with what is held and is given back when a large
// queue runs empty. Bytes are read into it and sent from it in place, at most in two pieces.
class ByteRing {
  public:
    // `limit` is a power of two.
    explicit ByteRing(std::size_t limit) noexcept : limit_{limit} {}

    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] std::size_t room() const noexcept { return limit_ - size_; }

    // Space for new bytes, contiguous, as much of `wanted` as there is. commit() makes them count.
    [[nodiscard]] std::span<char> prepare(std::size_t wanted);
    void commit(std::size_t count) noexcept { size_ += count; }
    // Takes as much as there is room for; gives how much.
    std::size_t append(std::string_view bytes);

    // Contiguous bytes from the `from`th held one on, at most `most`. from <= size().
    [[nodiscard]] std::string_view view(std::size_t from, std::size_t most) const noexcept;
    // Forgets the oldest `count` bytes. count <= size().
    void discard(std::size_t count) noexcept;

  private:
    void grow(std::size_t wanted);

    std::size_t limit_;
    std::unique_ptr<char[]> bytes_;
    std::size_t capacity_ = 0;  // 0 or a power of two
    std::size_t begin_ = 0;
    std::size_t size_ = 0;
};

}  // namespace noid::proto
