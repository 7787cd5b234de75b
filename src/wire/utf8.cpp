#include "wire/utf8.hpp"

namespace noid::wire {

namespace {

struct Sequence {
    std::size_t length = 1;  // bytes to step over: of the character, or of the malformed part
    bool valid = false;
};

// Reads the character at the front of a non-empty `bytes`.
Sequence first_sequence(std::string_view bytes) noexcept {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(bytes[i]); };
    const unsigned char lead = byte(0);
    if (lead < 0x80) return {1, true};
    std::size_t length = 0;
    unsigned char lowest = 0x80;  // bounds of the second byte, narrower for some leads
    unsigned char highest = 0xbf;
    if (lead >= 0xc2 && lead <= 0xdf) {
        length = 2;
    } else if (lead >= 0xe0 && lead <= 0xef) {
        length = 3;
        if (lead == 0xe0) lowest = 0xa0;   // overlong below
        if (lead == 0xed) highest = 0x9f;  // surrogates above
    } else if (lead >= 0xf0 && lead <= 0xf4) {
        length = 4;
        if (lead == 0xf0) lowest = 0x90;
        if (lead == 0xf4) highest = 0x8f;  // beyond U+10FFFF above
    } else {
        return {1, false};
    }
    for (std::size_t i = 1; i < length; ++i) {
        if (i >= bytes.size() || byte(i) < lowest || byte(i) > highest) return {i, false};
        lowest = 0x80;
        highest = 0xbf;
    }
    return {length, true};
}

}  // namespace

bool is_utf8(std::string_view bytes) noexcept {
    while (!bytes.empty()) {
        const Sequence sequence = first_sequence(bytes);
        if (!sequence.valid) return false;
        bytes.remove_prefix(sequence.length);
    }
    return true;
}

std::string to_utf8(std::string_view bytes) {
    if (is_utf8(bytes)) return std::string{bytes};
    std::string text;
    text.reserve(bytes.size() + 16);
    while (!bytes.empty()) {
        const Sequence sequence = first_sequence(bytes);
        if (sequence.valid) {
            text.append(bytes.substr(0, sequence.length));
        } else {
            text.append("\xef\xbf\xbd");
        }
        bytes.remove_prefix(sequence.length);
    }
    return text;
}

}  // namespace noid::wire
