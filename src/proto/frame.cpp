#include "proto/frame.hpp"

#include <algorithm>
#include <boost/endian/conversion.hpp>
#include <cstring>
#include <stdexcept>

#include "proto/crc32c.hpp"

namespace noid::proto {
namespace {

namespace endian = boost::endian;

constexpr std::uint16_t magic = 0x4e64;
constexpr std::size_t checked_bytes = 28;
// Longer ones are not looked for, so that a chance match does not swallow what follows.
constexpr std::size_t max_opening_payload = 2048;
constexpr std::size_t buffer_size = 256 * 1024 + max_frame;
constexpr std::size_t least_space = 64 * 1024;

const unsigned char* bytes_of(std::string_view text) noexcept {
    return reinterpret_cast<const unsigned char*>(text.data());
}

std::uint32_t trailer_for(std::uint32_t epoch) noexcept {
    return ~epoch;
}

bool is_known(std::uint8_t type, std::uint8_t stream) noexcept {
    return type >= static_cast<std::uint8_t>(FrameType::hello) &&
           type <= static_cast<std::uint8_t>(FrameType::reply) && stream < stream_count;
}

}  // namespace

void append_frame(std::string& out, const FrameHeader& header, std::string_view payload) {
    if (payload.size() > max_payload) throw std::length_error("frame payload too large");
    unsigned char raw[header_size];
    endian::store_little_u16(raw, magic);
    raw[2] = static_cast<unsigned char>(header.type);
    raw[3] = static_cast<unsigned char>(header.stream);
    endian::store_little_u32(raw + 4, static_cast<std::uint32_t>(payload.size()));
    endian::store_little_u32(raw + 8, header.epoch);
    endian::store_little_u64(raw + 12, header.id);
    endian::store_little_u64(raw + 20, header.offset);
    const std::string_view checked{reinterpret_cast<const char*>(raw), checked_bytes};
    endian::store_little_u32(raw + checked_bytes, crc32c(checked));
    out.append(reinterpret_cast<const char*>(raw), header_size);
    out.append(payload);
    unsigned char trailer[trailer_size];
    endian::store_little_u32(trailer, trailer_for(header.epoch));
    out.append(reinterpret_cast<const char*>(trailer), trailer_size);
}

std::span<char> FrameReader::prepare() {
    if (!buffer_) buffer_ = std::make_unique_for_overwrite<char[]>(buffer_size);
    if (begin_ == end_) begin_ = end_ = 0;
    if (buffer_size - end_ < least_space) {
        std::memmove(buffer_.get(), buffer_.get() + begin_, end_ - begin_);
        end_ -= begin_;
        begin_ = 0;
    }
    return {buffer_.get() + end_, buffer_size - end_};
}

void FrameReader::restart() noexcept {
    begin_ = end_ = 0;
    in_step_ = false;
}

std::optional<FrameHeader> FrameReader::header_here() const noexcept {
    const std::string_view here = unread();
    const unsigned char* raw = bytes_of(here);
    if (endian::load_little_u16(raw) != magic) return std::nullopt;
    if (endian::load_little_u32(raw + checked_bytes) != crc32c(here.substr(0, checked_bytes)))
        return std::nullopt;
    if (!is_known(raw[2], raw[3])) return std::nullopt;
    FrameHeader header;
    header.type = static_cast<FrameType>(raw[2]);
    header.stream = static_cast<StreamId>(raw[3]);
    header.length = endian::load_little_u32(raw + 4);
    header.epoch = endian::load_little_u32(raw + 8);
    header.id = endian::load_little_u64(raw + 12);
    header.offset = endian::load_little_u64(raw + 20);
    if (header.length > max_payload) return std::nullopt;
    return header;
}

bool FrameReader::opens(const FrameHeader& header) const noexcept {
    if (header.length > max_opening_payload) return false;
    if (side_ == Side::agent) return header.type == FrameType::hello;
    return header.type == FrameType::hello_ack && header.id == nonce_;
}

// Moves to the next place that is an opening header, or may yet become one.
bool FrameReader::skip_to_opening() {
    while (end_ - begin_ >= header_size) {
        if (const auto header = header_here(); header && opens(*header)) return true;
        ++begin_;
        const auto candidate = unread().find(static_cast<char>(magic & 0xff));
        begin_ = candidate == std::string_view::npos ? end_ : begin_ + candidate;
    }
    return false;
}

std::unexpected<Error> FrameReader::lose_step(const char* why) {
    in_step_ = false;
    ++begin_;
    return fail(Errc::corrupt, why);
}

Result<std::optional<Frame>> FrameReader::next() {
    while (in_step_ || skip_to_opening()) {
        if (end_ - begin_ < header_size) return std::nullopt;
        const auto header = header_here();
        if (!header) return lose_step("bytes that are not a frame");
        const bool opening = opens(*header);
        if (!opening && header->epoch != epoch_) return lose_step("a frame of another connection");
        const std::size_t whole = header_size + header->length + trailer_size;
        if (end_ - begin_ < whole) return std::nullopt;
        const auto* trailer = bytes_of(unread()) + header_size + header->length;
        if (endian::load_little_u32(trailer) == trailer_for(header->epoch)) {
            const Frame frame{*header, unread().substr(header_size, header->length)};
            begin_ += whole;
            in_step_ = true;
            if (opening) epoch_ = header->epoch;
            return frame;
        }
        if (in_step_) return lose_step("a frame was cut off");
        ++begin_;  // what looked like an opening frame was none
    }
    return std::nullopt;
}

}  // namespace noid::proto
