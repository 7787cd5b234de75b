#pragma once

#include <filesystem>
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
// offset (64 bits, little-endian), then the size. Hexadecimal. Blocking, as long as reading the data takes.
[[nodiscard]] Result<std::string> content_hash(const std::filesystem::path& file);

}  // namespace noid::vm
