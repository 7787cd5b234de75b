#include "cli/tree_archive.hpp"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>
#include <string_view>
#include <utility>

#include "base/file.hpp"
#include "cli/failure.hpp"

namespace noid::cli {
namespace {

constexpr std::size_t block_bytes = 64 * 1024;

struct FreeReader {
    void operator()(archive* reader) const { archive_read_free(reader); }
};
struct FreeWriter {
    void operator()(archive* writer) const { archive_write_free(writer); }
};
struct FreeEntry {
    void operator()(archive_entry* entry) const { archive_entry_free(entry); }
};
struct FreeResolver {
    void operator()(archive_entry_linkresolver* resolver) const { archive_entry_linkresolver_free(resolver); }
};
using Reader = std::unique_ptr<archive, FreeReader>;
using Writer = std::unique_ptr<archive, FreeWriter>;
using Entry = std::unique_ptr<archive_entry, FreeEntry>;
using LinkResolver = std::unique_ptr<archive_entry_linkresolver, FreeResolver>;

std::unexpected<Error> archive_failure(archive* source, std::string_view doing) {
    const int reason = archive_errno(source);
    const char* text = archive_error_string(source);
    Error error{Errc::internal, fmt::format("{}: {}", doing, printable(text ? text : "unknown error")), {}};
    if (reason == ENOSPC || reason == EDQUOT) error.code = Errc::no_space;
    if (reason == EACCES || reason == EPERM) error.code = Errc::forbidden;
    if (reason == ENOENT) error.code = Errc::not_found;
    return fail(std::move(error));
}

bool is_kept(archive_entry* entry) {
    // What libarchive takes for a hard link has no type of its own.
    if (archive_entry_hardlink(entry)) return true;
    const auto type = archive_entry_filetype(entry);
    return type == AE_IFREG || type == AE_IFDIR || type == AE_IFLNK;
}

}  // namespace

struct TreePacker::State {
    std::string root;    // without slashes at its end
    std::string packed;  // made, not yet read; `tar` writes here until it is gone
    std::size_t packed_read = 0;
    Reader disk;
    Writer tar;
    LinkResolver links;
    Entry entry;
    bool in_file = false;
    std::uint64_t file_left = 0;  // bytes that the entry's header promised
    bool finished = false;
    std::vector<std::string> skipped;

    static la_ssize_t take(archive*, void* self, const void* bytes, std::size_t count) {
        static_cast<State*>(self)->packed.append(static_cast<const char*>(bytes), count);
        return static_cast<la_ssize_t>(count);
    }

    Result<void> begin_next_entry();
    Result<void> write_some_of_file();
    Result<void> finish();
};

Result<void> TreePacker::State::begin_next_entry() {
    const int outcome = archive_read_next_header2(disk.get(), entry.get());
    if (outcome == ARCHIVE_EOF) return finish();
    if (outcome < ARCHIVE_WARN) return archive_failure(disk.get(), "cannot read the directory");
    if (archive_read_disk_can_descend(disk.get()) == 1) archive_read_disk_descend(disk.get());
    const std::string path = archive_entry_pathname(entry.get());
    if (!is_kept(entry.get())) {
        skipped.push_back(path);
        return {};
    }
    auto below = std::string_view{path}.substr(std::min(root.size(), path.size()));
    while (below.starts_with('/')) below.remove_prefix(1);
    archive_entry_set_pathname(entry.get(), fmt::format("./{}", below).c_str());
    archive_entry_set_uid(entry.get(), 0);
    archive_entry_set_gid(entry.get(), 0);
    archive_entry_set_uname(entry.get(), "root");
    archive_entry_set_gname(entry.get(), "root");
    archive_entry_sparse_clear(entry.get());  // holes travel as zeros, which every tar understands
    archive_entry* linked = entry.get();
    archive_entry* deferred = nullptr;  // the pax format defers none
    archive_entry_linkify(links.get(), &linked, &deferred);
    if (archive_write_header(tar.get(), entry.get()) < ARCHIVE_WARN) {
        return archive_failure(tar.get(), fmt::format("cannot pack '{}'", path));
    }
    file_left = archive_entry_filetype(entry.get()) == AE_IFREG && !archive_entry_hardlink(entry.get())
                    ? static_cast<std::uint64_t>(archive_entry_size(entry.get()))
                    : 0;
    in_file = file_left > 0;
    return {};
}

Result<void> TreePacker::State::write_some_of_file() {
    std::array<char, block_bytes> block;
    const auto wanted = static_cast<std::size_t>(std::min<std::uint64_t>(file_left, block.size()));
    const auto count = archive_read_data(disk.get(), block.data(), wanted);
    if (count < 0) return archive_failure(disk.get(), "cannot read a file");
    if (count == 0) {
        return fail(Errc::conflict, fmt::format("'{}' became shorter while it was read",
                                                printable(archive_entry_pathname(entry.get()))));
    }
    if (archive_write_data(tar.get(), block.data(), static_cast<std::size_t>(count)) < 0)
        return archive_failure(tar.get(), "cannot pack a file");
    file_left -= static_cast<std::uint64_t>(count);
    in_file = file_left > 0;
    return {};
}

Result<void> TreePacker::State::finish() {
    finished = true;
    if (archive_write_close(tar.get()) != ARCHIVE_OK)
        return archive_failure(tar.get(), "cannot end the archive");
    return {};
}

TreePacker::TreePacker(std::unique_ptr<State> state) noexcept : state_{std::move(state)} {}
TreePacker::TreePacker(TreePacker&&) noexcept = default;
TreePacker& TreePacker::operator=(TreePacker&&) noexcept = default;
TreePacker::~TreePacker() = default;

Result<TreePacker> TreePacker::open(const std::filesystem::path& directory) {
    auto state = std::make_unique<State>();
    state->root = directory.string();
    while (state->root.size() > 1 && state->root.ends_with('/')) state->root.pop_back();
    state->disk.reset(archive_read_disk_new());
    archive_read_disk_set_symlink_physical(state->disk.get());
    archive_read_disk_set_behavior(
        state->disk.get(), ARCHIVE_READDISK_NO_XATTR | ARCHIVE_READDISK_NO_ACL | ARCHIVE_READDISK_NO_FFLAGS);
    if (archive_read_disk_open(state->disk.get(), state->root.c_str()) != ARCHIVE_OK)
        return archive_failure(state->disk.get(), "cannot read the directory");
    state->tar.reset(archive_write_new());
    archive_write_set_format_pax_restricted(state->tar.get());
    archive_write_set_bytes_per_block(state->tar.get(), 0);  // passed on as it comes
    if (archive_write_open(state->tar.get(), state.get(), nullptr, &State::take, nullptr) != ARCHIVE_OK)
        return archive_failure(state->tar.get(), "cannot begin the archive");
    state->links.reset(archive_entry_linkresolver_new());
    archive_entry_linkresolver_set_strategy(state->links.get(), archive_format(state->tar.get()));
    state->entry.reset(archive_entry_new2(state->disk.get()));
    return TreePacker{std::move(state)};
}

Result<std::size_t> TreePacker::read(std::span<char> out) {
    auto& state = *state_;
    while (state.packed_read == state.packed.size()) {
        state.packed.clear();
        state.packed_read = 0;
        if (state.finished) return 0;
        auto made = state.in_file ? state.write_some_of_file() : state.begin_next_entry();
        if (!made) return fail(made.error());
    }
    const auto count = state.packed.copy(out.data(), out.size(), state.packed_read);
    state.packed_read += count;
    return count;
}

const std::vector<std::string>& TreePacker::skipped() const noexcept {
    return state_->skipped;
}

namespace {

// The entry's data, to its end.
Result<void> copy_data(archive* from, archive* to) {
    for (;;) {
        const void* bytes = nullptr;
        std::size_t count = 0;
        la_int64_t offset = 0;
        const int outcome = archive_read_data_block(from, &bytes, &count, &offset);
        if (outcome == ARCHIVE_EOF) return {};
        if (outcome < ARCHIVE_WARN) return archive_failure(from, "the archive is damaged");
        if (archive_write_data_block(to, bytes, count, offset) < ARCHIVE_WARN)
            return archive_failure(to, "cannot write");
    }
}

bool is_root(std::string_view path) {
    while (path.ends_with('/')) path.remove_suffix(1);
    return path == "." || path.empty();
}

Result<Unpacked> unpack_here(int stream, RootEntry root) {
    const Reader reader{archive_read_new()};
    archive_read_support_format_tar(reader.get());
    archive_read_support_filter_none(reader.get());
    if (archive_read_open_fd(reader.get(), stream, block_bytes) != ARCHIVE_OK)
        return archive_failure(reader.get(), "cannot read the archive");
    const Writer disk{archive_write_disk_new()};
    archive_write_disk_set_options(disk.get(), ARCHIVE_EXTRACT_TIME | ARCHIVE_EXTRACT_SECURE_SYMLINKS |
                                                   ARCHIVE_EXTRACT_SECURE_NODOTDOT |
                                                   ARCHIVE_EXTRACT_SECURE_NOABSOLUTEPATHS);
    Unpacked unpacked;
    std::optional<mode_t> root_mode;
    for (;;) {
        archive_entry* entry = nullptr;  // the reader's own
        const int outcome = archive_read_next_header(reader.get(), &entry);
        if (outcome == ARCHIVE_EOF) break;
        if (outcome < ARCHIVE_WARN) return archive_failure(reader.get(), "the archive is damaged");
        const char* name = archive_entry_pathname(entry);
        const std::string path = name ? name : "";
        if (!is_kept(entry)) {
            unpacked.skipped.push_back(path);
            continue;
        }
        if (is_root(path)) {
            root_mode = archive_entry_perm(entry) & 0777;
            continue;
        }
        if (archive_write_header(disk.get(), entry) < ARCHIVE_WARN)
            return archive_failure(disk.get(), fmt::format("cannot make '{}'", printable(path)));
        if (auto copied = copy_data(reader.get(), disk.get()); !copied)
            return fail(std::move(copied).error().at(printable(path)));
        if (archive_write_finish_entry(disk.get()) < ARCHIVE_WARN)
            return archive_failure(disk.get(), fmt::format("cannot finish '{}'", printable(path)));
        ++unpacked.entries;
    }
    if (archive_write_close(disk.get()) < ARCHIVE_WARN)
        return archive_failure(disk.get(), "cannot set modes and times");
    if (root == RootEntry::applied && root_mode) {
        const mode_t mask = ::umask(0);  // this thread's alone, as its working directory
        ::umask(mask);
        if (::chmod(".", *root_mode & ~mask) != 0)
            return fail_errno(errno, "cannot set the directory's mode");
    }
    return unpacked;
}

// What comes behind the archive's end: its last record is filled up.
void drain(int stream) {
    std::array<char, 4096> rest;
    ssize_t count = 0;
    do {
        count = ::read(stream, rest.data(), rest.size());
    } while (count > 0 || (count < 0 && errno == EINTR));
}

}  // namespace

Result<Unpacked> unpack_tree(Fd stream, const std::filesystem::path& directory, RootEntry root) {
    // libarchive keeps an archive inside the working directory. This thread gets one of its own.
    if (::unshare(CLONE_FS) != 0) return fail_errno(errno, "cannot leave the working directory");
    auto place = open_directory(directory);
    if (!place) return fail(place.error());
    if (::fchdir(place->get()) != 0) return fail_errno(errno, directory.string());
    auto unpacked = unpack_here(stream.get(), root);
    if (unpacked) drain(stream.get());
    return unpacked;
}

}  // namespace noid::cli
