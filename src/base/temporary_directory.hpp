#pragma once

#include <filesystem>
#include <string_view>
#include <utility>

#include "base/error.hpp"

namespace noid {

// A fresh directory, mode 0700, removed with all that is in it.
class TemporaryDirectory {
  public:
    // Makes `parent`/`prefix`XXXXXX.
    [[nodiscard]] static Result<TemporaryDirectory> create(
        const std::filesystem::path& parent = std::filesystem::temp_directory_path(),
        std::string_view prefix = "noid-");
    TemporaryDirectory(TemporaryDirectory&& other) noexcept : path_{std::exchange(other.path_, {})} {}
    TemporaryDirectory& operator=(TemporaryDirectory&&) = delete;
    ~TemporaryDirectory();

    [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }

  private:
    explicit TemporaryDirectory(std::filesystem::path path) noexcept : path_{std::move(path)} {}

    std::filesystem::path path_;
};

}  // namespace noid
