#include "volume/volume.hpp"

#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>
#include <vector>

#include "base/file.hpp"
#include "base/random.hpp"

namespace noid::volume {

namespace {

// A file under a name that nobody looks for, until publish() gives it its own.
class UnpublishedFile {
  public:
    static Result<UnpublishedFile> create(const Place& place) {
        std::string temporary = place.name + ".tmp-" + random_hex(8);
        auto file = open_file_at(place.directory, temporary, O_RDWR | O_CREAT | O_EXCL);
        if (!file) return fail(std::move(file.error()));
        return UnpublishedFile{place, std::move(temporary), std::move(*file)};
    }
    UnpublishedFile(UnpublishedFile&& other) noexcept
        : directory_{other.directory_},
          name_{std::move(other.name_)},
          temporary_{std::exchange(other.temporary_, {})},
          file_{std::move(other.file_)} {}
    UnpublishedFile& operator=(UnpublishedFile&&) = delete;
    ~UnpublishedFile() {
        if (!temporary_.empty()) ::unlinkat(directory_, temporary_.c_str(), 0);
    }

    [[nodiscard]] const Fd& file() const noexcept { return file_; }
    Result<void> publish() {
        if (::renameat2(directory_, temporary_.c_str(), directory_, name_.c_str(), RENAME_NOREPLACE) != 0)
            return fail_errno(errno, "cannot create " + name_);
        temporary_.clear();
        return {};
    }

  private:
    UnpublishedFile(const Place& place, std::string temporary, Fd file) noexcept
        : directory_{place.directory.get()},
          name_{place.name},
          temporary_{std::move(temporary)},
          file_{std::move(file)} {}

    int directory_;  // the caller keeps it open
    std::string name_;
    std::string temporary_;
    Fd file_;
};

// Copies through this process, where the kernel cannot do it itself.
Result<void> copy_through_buffer(const Fd& from, const Fd& to, off_t begin, off_t end) {
    std::vector<char> buffer(std::size_t{1} << 20);
    while (begin < end) {
        const auto wanted = std::min<std::size_t>(buffer.size(), static_cast<std::size_t>(end - begin));
        const ssize_t got = ::pread(from.get(), buffer.data(), wanted, begin);
        if (got < 0) return fail_errno(errno, "cannot read the source");
        if (got == 0) return fail(Errc::corrupt, "the source became shorter");
        const std::string_view bytes{buffer.data(), static_cast<std::size_t>(got)};
        if (auto written = write_all_at(to, bytes, begin); !written) return written;
        begin += got;
    }
    return {};
}

Result<void> copy_range(const Fd& from, const Fd& to, off_t begin, off_t end) {
    off_t in = begin;
    off_t out = begin;
    while (in < end) {
        const ssize_t done =
            ::copy_file_range(from.get(), &in, to.get(), &out, static_cast<std::size_t>(end - in), 0);
        if (done > 0) continue;
        if (done == 0) return fail(Errc::corrupt, "the source became shorter");
        if (errno == EXDEV || errno == EOPNOTSUPP || errno == EINVAL || errno == ENOSYS)
            return copy_through_buffer(from, to, in, end);
        if (errno != EINTR) return fail_errno(errno, "cannot copy");
    }
    return {};
}

Result<void> copy_sparse(const Fd& from, const Fd& to) {
    struct stat status {};
    if (::fstat(from.get(), &status) != 0) return fail_errno(errno, "cannot examine the source");
    if (::ftruncate(to.get(), status.st_size) != 0) return fail_errno(errno, "cannot size the copy");
    off_t end = 0;
    while (end < status.st_size) {
        const off_t begin = ::lseek(from.get(), end, SEEK_DATA);
        if (begin < 0 && errno == ENXIO) break;  // only a hole is left
        if (begin < 0) return fail_errno(errno, "cannot look for data");
        end = ::lseek(from.get(), begin, SEEK_HOLE);
        if (end < 0) return fail_errno(errno, "cannot look for holes");
        if (auto copied = copy_range(from, to, begin, end); !copied) return copied;
    }
    return {};
}

bool is_reflink_refused(int error_number) {
    return error_number == EXDEV || error_number == EOPNOTSUPP || error_number == ENOTTY ||
           error_number == EINVAL;
}

template <class Fill>
Result<void> make_clone(const Place& from, const Place& to, Fill fill) {
    const auto source = open_file_at(from.directory, from.name, O_RDONLY);
    if (!source) return fail(source.error());
    auto target = UnpublishedFile::create(to);
    if (!target) return fail(std::move(target.error()));
    if (auto filled = fill(*source, target->file()); !filled)
        return fail(std::move(filled.error()).at("clone " + from.name));
    return target->publish();
}

class CopyingVolume final : public Volume {
  public:
    [[nodiscard]] std::string_view name() const noexcept override { return "copy"; }
    [[nodiscard]] bool clones_are_free() const noexcept override { return false; }
    [[nodiscard]] Result<void> clone(const Place& from, const Place& to) const override {
        return make_clone(from, to, copy_sparse);
    }
};

class ReflinkVolume final : public Volume {
  public:
    [[nodiscard]] std::string_view name() const noexcept override { return "reflink"; }
    [[nodiscard]] bool clones_are_free() const noexcept override { return true; }
    [[nodiscard]] Result<void> clone(const Place& from, const Place& to) const override {
        return make_clone(from, to, [](const Fd& source, const Fd& target) -> Result<void> {
            if (::ioctl(target.get(), FICLONE, source.get()) == 0) return {};
            // The source lies on another file system, or is a kind of file that this one does not share.
            if (is_reflink_refused(errno)) return copy_sparse(source, target);
            return fail_errno(errno, "cannot share blocks");
        });
    }
};

}  // namespace

std::unique_ptr<Volume> copying_volume() {
    return std::make_unique<CopyingVolume>();
}

Result<std::unique_ptr<Volume>> probe(const Fd& directory) {
    auto source = UnpublishedFile::create({directory, "probe-source"});
    if (!source) return fail(std::move(source.error()));
    auto target = UnpublishedFile::create({directory, "probe-target"});
    if (!target) return fail(std::move(target.error()));
    constexpr std::size_t block = 4096;
    if (auto written = write_all(source->file(), std::string(block, 'x')); !written)
        return fail(std::move(written.error()));
    if (::ioctl(target->file().get(), FICLONE, source->file().get()) == 0)
        return std::make_unique<ReflinkVolume>();
    if (is_reflink_refused(errno)) return copying_volume();
    return fail_errno(errno, "cannot try the file system");
}

Result<void> grow(const Fd& file, MiB size) {
    struct stat status {};
    if (::fstat(file.get(), &status) != 0) return fail_errno(errno, "cannot examine the file");
    const auto bytes = static_cast<off_t>(size.bytes());
    if (bytes < status.st_size) return fail(Errc::invalid, "a disk cannot become smaller");
    if (::ftruncate(file.get(), bytes) != 0) return fail_errno(errno, "cannot grow the file");
    return {};
}

Result<Space> space_of(const Fd& file) {
    struct stat status {};
    if (::fstat(file.get(), &status) != 0) return fail_errno(errno, "cannot examine the file");
    constexpr std::uint64_t sector = 512;
    const Space unknown{static_cast<std::uint64_t>(status.st_blocks) * sector,
                        static_cast<std::uint64_t>(status.st_blocks) * sector};

    constexpr std::uint32_t extents_at_once = 256;
    std::vector<std::uint64_t> request((sizeof(fiemap) + extents_at_once * sizeof(fiemap_extent)) / 8 + 1);
    auto* map = reinterpret_cast<fiemap*>(request.data());
    Space space;
    std::uint64_t begin = 0;
    while (true) {
        std::ranges::fill(request, 0);
        map->fm_start = begin;
        map->fm_length = FIEMAP_MAX_OFFSET - begin;
        map->fm_flags = FIEMAP_FLAG_SYNC;
        map->fm_extent_count = extents_at_once;
        if (::ioctl(file.get(), FS_IOC_FIEMAP, map) != 0) {
            if (errno == EOPNOTSUPP || errno == ENOTTY) return unknown;
            return fail_errno(errno, "cannot ask for the file's blocks");
        }
        if (map->fm_mapped_extents == 0) return space;
        for (std::uint32_t i = 0; i < map->fm_mapped_extents; ++i) {
            const fiemap_extent& extent = map->fm_extents[i];
            space.allocated += extent.fe_length;
            if ((extent.fe_flags & FIEMAP_EXTENT_SHARED) == 0) space.exclusive += extent.fe_length;
            if ((extent.fe_flags & FIEMAP_EXTENT_LAST) != 0) return space;
            begin = extent.fe_logical + extent.fe_length;
        }
    }
}

}  // namespace noid::volume
