#include "vm/token.hpp"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <algorithm>
#include <cstring>

namespace noid::vm {

namespace {

TokenHash sha256(std::string_view text) {
    TokenHash hash;
    SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), hash.data());
    return hash;
}

int hex_digit(char c) noexcept {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

}  // namespace

TokenHash hash_token(std::string_view token) {
    if (token.starts_with(token_prefix)) return sha256(token);
    std::string canonical{token_prefix};
    canonical.append(token);
    const TokenHash hash = sha256(canonical);
    OPENSSL_cleanse(canonical.data(), canonical.size());
    return hash;
}

std::string to_hex(const TokenHash& hash) {
    constexpr char digits[] = "0123456789abcdef";
    std::string text;
    text.reserve(hash.size() * 2);
    for (const unsigned char byte : hash) {
        text.push_back(digits[byte >> 4]);
        text.push_back(digits[byte & 15]);
    }
    return text;
}

bool from_hex(std::string_view text, TokenHash& out) noexcept {
    if (text.size() != out.size() * 2) return false;
    for (std::size_t i = 0; i < out.size(); ++i) {
        const int high = hex_digit(text[2 * i]);
        const int low = hex_digit(text[2 * i + 1]);
        if (high < 0 || low < 0) return false;
        out[i] = static_cast<unsigned char>(high << 4 | low);
    }
    return true;
}

bool SameTokenHash::operator()(const TokenHash& a, const TokenHash& b) const noexcept {
    return CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

std::size_t TokenHashBucket::operator()(const TokenHash& hash) const noexcept {
    std::size_t bucket = 0;
    std::memcpy(&bucket, hash.data(), sizeof bucket);
    return bucket;
}

std::string sha256_hex(std::string_view text) {
    return to_hex(sha256(text));
}

bool is_valid_user_name(std::string_view name) noexcept {
    if (name.empty() || name.size() > 64) return false;
    return std::all_of(name.begin(), name.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
               c == '.' || c == '-' || c == '@' || c == '+';
    });
}

}  // namespace noid::vm
