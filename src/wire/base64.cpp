#include "wire/base64.hpp"

#include <openssl/evp.h>

#include <limits>

namespace noid::wire {

namespace {

bool is_base64_digit(char c) noexcept {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '/';
}

}  // namespace

std::string to_base64(std::string_view bytes) {
    // EVP_EncodeBlock counts in int: encode in pieces whose length is a multiple of three.
    constexpr std::size_t piece = 3U << 20;
    std::string text((bytes.size() + 2) / 3 * 4 + 1, '\0');  // and the NUL that OpenSSL adds
    std::size_t length = 0;
    for (std::size_t at = 0; at < bytes.size(); at += piece) {
        const std::string_view part = bytes.substr(at, piece);
        length += static_cast<std::size_t>(EVP_EncodeBlock(
            reinterpret_cast<unsigned char*>(text.data() + length),
            reinterpret_cast<const unsigned char*>(part.data()), static_cast<int>(part.size())));
    }
    text.resize(length);
    return text;
}

Result<std::string> from_base64(std::string_view text) {
    const auto malformed = [] { return fail(Errc::invalid, "not valid base64"); };
    if (text.size() % 4 != 0 || text.size() > std::numeric_limits<int>::max()) return malformed();
    std::size_t padding = 0;
    while (padding < 2 && padding < text.size() && text[text.size() - 1 - padding] == '=') ++padding;
    // EVP_DecodeBlock skips white space at both ends, which would make lengths lie.
    for (const char c : text.substr(0, text.size() - padding)) {
        if (!is_base64_digit(c)) return malformed();
    }
    std::string bytes(text.size() / 4 * 3, '\0');
    const int length =
        EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()),
                        reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
    if (length < 0) return malformed();
    bytes.resize(static_cast<std::size_t>(length) - padding);
    // Bits of the last digit that belong to no byte: only zeros, so that each text is the only one of its
    // bytes.
    if (padding > 0 &&
        to_base64(std::string_view{bytes}.substr(bytes.size() / 3 * 3)) != text.substr(text.size() - 4))
        return malformed();
    return bytes;
}

}  // namespace noid::wire
