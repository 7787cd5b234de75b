#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>

namespace noid::volume::testing {

struct FileSystem {
    const char* name;
    bool shares;
    std::size_t image_mib;  // the smallest that its mkfs accepts, and room for the tests
};

// A file system of the given kind in a file, really mounted at <directory>/mounted.
class MountedImage {
  public:
    // nullopt where this host cannot.
    static std::optional<MountedImage> create(const std::filesystem::path& directory, const FileSystem& kind);
    MountedImage(MountedImage&& other) noexcept;
    MountedImage& operator=(MountedImage&&) = delete;
    ~MountedImage();
    [[nodiscard]] const std::filesystem::path& path() const { return point_; }

  private:
    explicit MountedImage(std::filesystem::path point) : point_{std::move(point)} {}
    std::filesystem::path point_;
};

}  // namespace noid::volume::testing
