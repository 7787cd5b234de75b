#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace noid {

// Bytes from the kernel's generator (getrandom). Throws std::system_error if the kernel refuses,
// which only a broken sandbox makes happen.
void fill_random(void* out, std::size_t size);

template <std::size_t N>
[[nodiscard]] std::array<std::byte, N> random_bytes() {
    std::array<std::byte, N> bytes;
    fill_random(bytes.data(), bytes.size());
    return bytes;
}

// `bytes` random bytes as 2*bytes lower-case hexadecimal characters.
[[nodiscard]] std::string random_hex(std::size_t bytes);
// A random (version 4) UUID in its usual spelling.
[[nodiscard]] std::string random_uuid();

}  // namespace noid
