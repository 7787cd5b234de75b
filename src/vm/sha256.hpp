#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/error.hpp"

struct evp_md_ctx_st;

namespace noid::vm {

// SHA-256 over bytes that come piece by piece.
class Sha256 {
  public:
    Sha256();
    void add(std::string_view bytes);
    // The 32 bytes over what was added; begins anew.
    [[nodiscard]] std::string take();

  private:
    struct Free {
        void operator()(evp_md_ctx_st* context) const noexcept;
    };
    std::unique_ptr<evp_md_ctx_st, Free> context_;
};

// Over what a file holds, wherever it has holes: the blocks of 4 KiB that are not all zero, each after its
// offset (64 bits, little-endian), then the size.
class ContentHash {
  public:
    // The next bytes; what is left out between two pieces is zero.
    void add(std::uint64_t offset, std::string_view bytes);
    // Hexadecimal, of a file of that size; begins anew.
    [[nodiscard]] std::string take(std::uint64_t size);

  private:
    void finish_block(std::size_t length);

    Sha256 hash_;
    std::string block_;               // as far as it is known
    std::uint64_t block_offset_ = 0;  // in the file
};

// Of a file. Blocking, as long as reading the data takes. `go_on` is asked now and then; cancelled once it
// says no.
[[nodiscard]] Result<std::string> content_hash(const std::filesystem::path& file,
                                               const std::function<bool()>& go_on = {});

}  // namespace noid::vm
