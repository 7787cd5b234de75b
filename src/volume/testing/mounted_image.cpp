#include "volume/testing/mounted_image.hpp"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <utility>
#include <vector>

#include "base/file.hpp"
#include "launcher/launcher.hpp"
#include "volume/loop_device.hpp"

namespace noid::volume::testing {

namespace {

bool run(const std::string& program, std::vector<std::string> arguments) {
    const auto path = launcher::find_program(program);
    if (!path) return false;
    launcher::ProcessSpec spec;
    spec.program = *path;
    spec.arguments = std::move(arguments);
    const auto child = launcher::launch(spec);
    if (!child) return false;
    siginfo_t info{};
    ::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(child->pidfd.get()), &info, WEXITED);
    return info.si_code == CLD_EXITED && info.si_status == 0;
}

}  // namespace

std::optional<MountedImage> MountedImage::create(const std::filesystem::path& directory,
                                                 const FileSystem& kind) {
    const auto image = directory / "image";
    const auto file = open_file(image, O_RDWR | O_CREAT);
    if (!file || ::ftruncate(file->get(), static_cast<off_t>(kind.image_mib << 20)) != 0) return std::nullopt;
    if (!run(std::string{"mkfs."} + kind.name, {"-q", image.string()})) return std::nullopt;
    const auto device = attach_loop_device(*file);
    if (!device) return std::nullopt;
    const auto point = directory / "mounted";
    ::mkdir(point.c_str(), 0700);
    if (::mount(device->path.c_str(), point.c_str(), kind.name, 0, nullptr) != 0) return std::nullopt;
    return MountedImage{point};
}

MountedImage::MountedImage(MountedImage&& other) noexcept : point_{std::exchange(other.point_, {})} {}

MountedImage::~MountedImage() {
    if (!point_.empty()) ::umount2(point_.c_str(), MNT_DETACH);
}

}  // namespace noid::volume::testing
