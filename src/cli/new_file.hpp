#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>

#include "base/error.hpp"
#include "base/fd.hpp"

namespace noid::cli {

// A file that is there, whole, after publish(), and else leaves no trace; a file that was there before is
// replaced then. Devices and pipes are written as they are. Blocks on the disk.
class NewFile {
  public:
    explicit NewFile(std::filesystem::path path) : path_{std::move(path)} {}
    NewFile(const NewFile&) = delete;
    NewFile& operator=(const NewFile&) = delete;
    ~NewFile();

    // The descriptor to write to, which stays with this object.
    [[nodiscard]] Result<int> create(mode_t mode);
    [[nodiscard]] Result<void> publish();

  private:
    std::filesystem::path path_;
    std::string temporary_;  // beside its place; empty: none, or published
    Fd file_;
};

}  // namespace noid::cli
