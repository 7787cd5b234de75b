#include "base/random.hpp"

#include <sys/random.h>

#include <cerrno>
#include <system_error>

namespace noid {

void fill_random(void* out, std::size_t size) {
    auto* cursor = static_cast<unsigned char*>(out);
    while (size > 0) {
        const ssize_t got = ::getrandom(cursor, size, 0);
        if (got < 0) {
            if (errno == EINTR) continue;
            throw std::system_error(errno, std::generic_category(), "getrandom");
        }
        cursor += got;
        size -= static_cast<std::size_t>(got);
    }
}

namespace {

void append_hex(std::string& out, unsigned char byte) {
    constexpr char digits[] = "0123456789abcdef";
    out.push_back(digits[byte >> 4]);
    out.push_back(digits[byte & 15]);
}

}  // namespace

std::string random_hex(std::size_t bytes) {
    std::string raw(bytes, '\0');
    fill_random(raw.data(), raw.size());
    std::string text;
    text.reserve(bytes * 2);
    for (const char byte : raw) append_hex(text, static_cast<unsigned char>(byte));
    return text;
}

std::string random_uuid() {
    std::array<unsigned char, 16> raw{};
    fill_random(raw.data(), raw.size());
    raw[6] = static_cast<unsigned char>((raw[6] & 0x0f) | 0x40);  // RFC 9562: version 4
    raw[8] = static_cast<unsigned char>((raw[8] & 0x3f) | 0x80);  // RFC 9562: variant 10
    std::string text;
    for (std::size_t i = 0; i < raw.size(); ++i) {
        if (i == 4 || i == 6 || i == 8 || i == 10) text.push_back('-');
        append_hex(text, raw[i]);
    }
    return text;
}

}  // namespace noid
