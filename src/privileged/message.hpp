#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "base/fd.hpp"

// What goes over the socket pair between the server and its privileged part: packets of bounded size with
// descriptors. Both ends are the same program, so numbers go as they lie in memory.
namespace noid::privileged {

inline constexpr std::size_t max_packet_bytes = 8 * 1024;
inline constexpr std::size_t max_packet_descriptors = 8;

struct Packet {
    std::string bytes;
    std::vector<Fd> descriptors;
};

class Writer {
  public:
    Writer& number(std::uint64_t value);
    Writer& text(std::string_view value);  // at most 64 KiB
    [[nodiscard]] std::string take() { return std::move(bytes_); }

  private:
    std::string bytes_;
};

// Reads what a Writer wrote. Whatever does not fit makes `ok` false, and the values from there on empty.
class Reader {
  public:
    explicit Reader(std::string_view bytes) noexcept : rest_{bytes} {}
    std::uint64_t number();
    // At most `limit`, else not ok.
    std::uint64_t number_up_to(std::uint64_t limit);
    // Not longer than `limit` bytes, and each of them one that `allowed` says yes to, else not ok.
    std::string text(std::size_t limit, bool (*allowed)(char));
    // Everything has been read, and was as it should be.
    [[nodiscard]] bool at_end() const noexcept { return ok_ && rest_.empty(); }
    void refuse() noexcept;

  private:
    std::string_view rest_;
    bool ok_ = true;
};

// Sends one packet; blocks while the other end has too many unread. unavailable when it is gone.
[[nodiscard]] Result<void> send_packet(const Fd& socket, std::string_view bytes,
                                       std::span<const int> descriptors);
// Waits for one packet. unavailable at the end of the stream; invalid, with nothing kept of it, when it has
// more bytes or descriptors than are allowed.
[[nodiscard]] Result<Packet> receive_packet(const Fd& socket);

}  // namespace noid::privileged
