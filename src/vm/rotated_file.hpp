#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <mutex>
#include <string>
#include <string_view>

#include "base/error.hpp"
#include "base/fd.hpp"

namespace noid::vm {

// Bytes on disk, of which the newest are kept: PATH and, older, PATH.1, each at most `part_bytes`.
// A position counts all bytes that were ever appended through this object, beginning with those
// that were found on disk. Blocking; thread-safe.
class RotatedFile {
  public:
    explicit RotatedFile(std::filesystem::path path, std::uint64_t part_bytes = std::uint64_t{1} << 20);

    [[nodiscard]] Result<void> append(std::string_view bytes);

    // The position after the newest byte. Never blocks.
    [[nodiscard]] std::uint64_t end() const;

    struct Piece {
        std::uint64_t position = 0;  // of the first byte; later than asked for when that is gone
        std::string bytes;           // empty: nothing there yet
    };
    [[nodiscard]] Result<Piece> read(std::uint64_t position, std::size_t at_most) const;

    // Removes both files. Appending begins anew.
    [[nodiscard]] Result<void> remove();

  private:
    [[nodiscard]] std::filesystem::path older_path() const;
    [[nodiscard]] Result<void> rotate();

    const std::filesystem::path path_;
    const std::uint64_t part_bytes_;
    mutable std::mutex mutex_;
    Fd file_;                             // for appending; opened by the first append
    std::uint64_t older_begin_ = 0;       // where PATH.1 begins
    std::uint64_t newer_begin_ = 0;       // where PATH begins
    std::atomic<std::uint64_t> end_ = 0;  // written under the mutex
};

}  // namespace noid::vm
