#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <string_view>

namespace noid::vm {

// A token's secret is 64 hexadecimal characters. It is accepted bare and with this prefix; what is
// hashed is always the prefixed spelling, because that is what earlier versions stored.
inline constexpr std::string_view token_prefix = "noid_tok_";
inline constexpr std::size_t max_token_bytes = 256;

using TokenHash = std::array<unsigned char, 32>;

// SHA-256 over the canonical spelling of a presented token.
[[nodiscard]] TokenHash hash_token(std::string_view token);
// Lower-case hexadecimal, as the database keeps it.
[[nodiscard]] std::string to_hex(const TokenHash& hash);
// False when the text is not 64 hexadecimal characters: such a row matches no token.
[[nodiscard]] bool from_hex(std::string_view text, TokenHash& out) noexcept;

// Takes the same time whatever the hashes are.
struct SameTokenHash {
    [[nodiscard]] bool operator()(const TokenHash& a, const TokenHash& b) const noexcept;
};
struct TokenHashBucket {
    [[nodiscard]] std::size_t operator()(const TokenHash& hash) const noexcept;
};

// SHA-256 of any text, lower-case hexadecimal.
[[nodiscard]] std::string sha256_hex(std::string_view text);

// 1 to 64 bytes of [A-Za-z0-9_.@+-].
[[nodiscard]] bool is_valid_user_name(std::string_view name) noexcept;

}  // namespace noid::vm
