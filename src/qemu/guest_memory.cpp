#include "qemu/guest_memory.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <optional>
#include <sstream>
#include <string_view>
#include <thread>
#include <utility>

#include "base/file.hpp"
#include "base/random.hpp"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace noid::qemu {

namespace {

constexpr std::uint64_t page = 4096;
constexpr std::uint64_t chunk = 1 << 20;           // bytes looked at in one step; stays in the CPU's cache
constexpr std::uint64_t worth_a_thread = 8 << 20;  // bytes
constexpr std::uint64_t most_threads = 4;

// Bits of an entry in /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst).
constexpr std::uint64_t page_present = std::uint64_t{1} << 63;
constexpr std::uint64_t page_swapped = std::uint64_t{1} << 62;
constexpr std::uint64_t page_of_file = std::uint64_t{1} << 61;

bool is_own(std::uint64_t entry) {
    return (entry & (page_present | page_swapped)) != 0 && (entry & page_of_file) == 0;
}

// PAGEMAP_SCAN as of Linux 6.7 (include/uapi/linux/fs.h), which a distribution's headers may be older than.
struct PageRegion {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    std::uint64_t categories = 0;
};
struct PageMapSearch {
    std::uint64_t size = sizeof(PageMapSearch);
    std::uint64_t flags = 0;
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    std::uint64_t stopped_at = 0;
    std::uint64_t regions = 0;
    std::uint64_t room = 0;
    std::uint64_t most_pages = 0;
    std::uint64_t inverted = 0;  // of the categories
    std::uint64_t all_of = 0;
    std::uint64_t any_of = 0;
    std::uint64_t returned = 0;
};
constexpr unsigned long pagemap_scan = _IOWR('f', 16, PageMapSearch);
constexpr std::uint64_t protect_what_matches = 1;  // PM_SCAN_WP_MATCHING
constexpr std::uint64_t only_if_protectable = 2;   // PM_SCAN_CHECK_WPASYNC
constexpr std::uint64_t is_written = 1 << 1;       // PAGE_IS_WRITTEN: since it was protected
constexpr std::uint64_t is_of_file = 1 << 2;       // PAGE_IS_FILE
constexpr std::uint64_t is_present = 1 << 3;       // PAGE_IS_PRESENT
constexpr std::uint64_t is_swapped = 1 << 4;       // PAGE_IS_SWAPPED
constexpr std::size_t regions_at_once = 8 * 1024;

constexpr char zeros[page] = {};

bool is_zero(const char* bytes) {
    return std::memcmp(bytes, zeros, page) == 0;
}

// The guest chooses what is in its pages: without knowing this it cannot make two of them look alike.
const auto& fingerprint_secret() {
    static const auto secret = random_bytes<XXH3_SECRET_SIZE_MIN>();
    return secret;
}

// From its position to its end.
Result<std::string> read_whole(const Fd& file, std::size_t limit) {
    std::string text;
    for (;;) {
        std::array<char, 16 * 1024> piece;
        const ssize_t got = ::read(file.get(), piece.data(), piece.size());
        if (got < 0) return fail_errno(errno, "cannot read the process's memory map");
        if (got == 0) return text;
        text.append(piece.data(), static_cast<std::size_t>(got));
        if (text.size() > limit) return fail(Errc::too_large, "the process's memory map is too long");
    }
}

}  // namespace

Result<GuestMemory> GuestMemory::open(Files files, std::uint64_t address, MiB size, Past past) {
    if (address == 0 || address % page != 0) return fail(Errc::corrupt, "the guest's memory was not found");
    GuestMemory memory;
    memory.files_ = std::move(files);
    memory.address_ = address;
    memory.size_ = size.bytes();
    const auto inode = memory.mapped_inode();
    if (!inode) return fail(inode.error());
    memory.inode_ = *inode;
    memory.follow_writes();
    memory.saved_is_known_ = past == Past::none;
    // Over no file, memory that has only been read is zero, as it is where nothing was written of it.
    memory.saved_.resize(memory.size_ / page, memory.inode_ == 0 ? fingerprint_of(zeros) : Fingerprint{});
    return memory;
}

// From now on the kernel says what is written, if it can.
void GuestMemory::follow_writes() {
    if (!files_.userfaultfd) return;
    uffdio_register request{};
    request.range = {address_, size_};
    request.mode = UFFDIO_REGISTER_MODE_WP;
    if (::ioctl(files_.userfaultfd.get(), UFFDIO_REGISTER, &request) != 0) files_.userfaultfd.reset();
}

Result<std::vector<GuestMemory::Run>> GuestMemory::own_pages(Own which) {
    return files_.userfaultfd ? search_page_map(which) : read_page_map();
}

Result<std::vector<GuestMemory::Run>> GuestMemory::search_page_map(Own which) const {
    std::vector<Run> runs;
    std::vector<PageRegion> regions(regions_at_once);
    PageMapSearch search;
    search.flags = protect_what_matches | only_if_protectable;
    search.begin = address_;
    search.end = address_ + size_;
    search.regions = reinterpret_cast<std::uint64_t>(regions.data());
    search.room = regions.size();
    search.inverted = is_of_file;
    search.all_of = is_of_file | (which == Own::written_since_looked_at ? is_written : 0);
    search.any_of = is_present | is_swapped;
    search.returned = is_present;
    while (search.begin < search.end) {
        const int found = ::ioctl(files_.pagemap.get(), pagemap_scan, &search);
        if (found < 0 || search.stopped_at <= search.begin)
            return fail_errno(found < 0 ? errno : ESRCH, "cannot search the guest's page map");
        for (int i = 0; i < found; ++i)
            runs.push_back({regions[i].begin - address_, regions[i].end - regions[i].begin});
        search.begin = search.stopped_at;
    }
    return runs;
}

Result<std::vector<GuestMemory::Run>> GuestMemory::read_page_map() const {
    std::vector<Run> runs;
    std::vector<std::uint64_t> entries(32 * 1024);
    for (std::uint64_t offset = 0; offset < size_;) {
        const std::uint64_t wanted = std::min<std::uint64_t>(entries.size(), (size_ - offset) / page);
        const ssize_t got = ::pread(files_.pagemap.get(), entries.data(), wanted * sizeof entries[0],
                                    static_cast<off_t>((address_ + offset) / page * sizeof entries[0]));
        if (got <= 0) return fail_errno(got < 0 ? errno : ESRCH, "cannot read the guest's page map");
        const auto count = static_cast<std::uint64_t>(got) / sizeof entries[0];
        for (std::uint64_t i = 0; i < count; ++i, offset += page) {
            if (!is_own(entries[i])) continue;
            if (!runs.empty() && runs.back().offset + runs.back().size == offset)
                runs.back().size += page;
            else
                runs.push_back({offset, page});
        }
    }
    return runs;
}

Result<std::uint64_t> GuestMemory::mapped_inode() const {
    const auto maps = read_whole(files_.maps, 4 << 20);
    if (!maps) return fail(maps.error());
    std::istringstream lines{*maps};
    for (std::string line; std::getline(lines, line);) {
        // 7f00e3e00000-7f00f3e00000 rw-p 00000000 fe:00 1234 /path
        std::istringstream fields{line};
        std::uint64_t begin = 0;
        std::uint64_t end = 0;
        char dash = 0;
        std::string permissions;
        std::string file_offset;
        std::string device;
        std::uint64_t inode = 0;
        fields >> std::hex >> begin >> dash >> end >> permissions >> file_offset >> device >> std::dec >>
            inode;
        if (!fields) return fail(Errc::corrupt, "unexpected line in the process's memory map");
        if (address_ < begin || address_ >= end) continue;
        if (permissions != "rw-p" || end - address_ < size_)
            return fail(Errc::corrupt, "the guest's memory is not mapped as expected");
        return inode;
    }
    return fail(Errc::corrupt, "the guest's memory is not mapped");
}

Result<bool> GuestMemory::lies_over(const Fd& file) const {
    struct stat status {};
    if (::fstat(file.get(), &status) != 0) return fail_errno(errno, "cannot examine the memory file");
    return inode_ != 0 && inode_ == status.st_ino;
}

Result<void> GuestMemory::read(std::uint64_t offset, std::string& buffer) const {
    std::size_t done = 0;
    while (done < buffer.size()) {
        const ssize_t got = ::pread(files_.memory.get(), buffer.data() + done, buffer.size() - done,
                                    static_cast<off_t>(address_ + offset + done));
        if (got <= 0) return fail_errno(got < 0 ? errno : EFAULT, "cannot read the guest's memory");
        done += static_cast<std::size_t>(got);
    }
    return {};
}

GuestMemory::Fingerprint GuestMemory::fingerprint_of(const char* bytes) {
    const auto& secret = fingerprint_secret();
    const XXH128_hash_t hash = XXH3_128bits_withSecret(bytes, page, secret.data(), secret.size());
    return {hash.low64, hash.high64};
}

// One pass over pages, shared by several threads, each of which takes the next piece that nobody has.
class GuestMemory::Copy {
  public:
    Copy(GuestMemory& memory, const std::vector<Run>& runs, const Fd& file, Wanted wanted)
        : memory_{memory}, file_{file}, wanted_{wanted} {
        for (const Run& run : runs) {
            for (std::uint64_t at = 0; at < run.size; at += chunk)
                pieces_.push_back({run.offset + at, std::min(chunk, run.size - at)});
            bytes_ += run.size;
        }
    }

    Result<std::uint64_t> carry_out(std::uint64_t at_most) {
        const std::uint64_t threads =
            std::min({bytes_ / worth_a_thread, at_most,
                      static_cast<std::uint64_t>(std::thread::hardware_concurrency())});
        {
            std::vector<std::jthread> others;
            for (std::uint64_t i = 1; i < threads; ++i) others.emplace_back([this] { take_pieces(); });
            take_pieces();
        }
        if (error_) return std::unexpected{std::move(*error_)};
        return written_;
    }

  private:
    struct Buffers {
        std::string memory;
        std::string file;
        std::vector<bool> wanted;  // by page
    };

    void take_pieces() {
        Buffers buffers;
        while (!failed_) {
            const std::size_t mine = next_++;
            if (mine >= pieces_.size()) return;
            if (auto done = copy(pieces_[mine], buffers); !done) {
                const std::scoped_lock lock{error_mutex_};
                failed_ = true;
                error_ = std::move(done.error());
            }
        }
    }

    Result<void> copy(const Run& piece, Buffers& buffers) {
        buffers.memory.resize(piece.size);
        if (auto done = memory_.read(piece.offset, buffers.memory); !done) return done;
        if (wanted_ == Wanted::differing_from_file) {
            buffers.file.resize(piece.size);
            const ssize_t got = ::pread(file_.get(), buffers.file.data(), buffers.file.size(),
                                        static_cast<off_t>(piece.offset));
            if (got != static_cast<ssize_t>(buffers.file.size()))
                return fail_errno(got < 0 ? errno : EIO, "cannot read the memory file");
        }
        choose(piece, buffers);
        return write_chosen(piece, buffers);
    }

    void choose(const Run& piece, Buffers& buffers) {
        buffers.wanted.assign(piece.size / page, false);
        for (std::uint64_t at = 0; at < piece.size; at += page) {
            const char* bytes = buffers.memory.data() + at;
            const Fingerprint now = fingerprint_of(bytes);
            Fingerprint& saved = memory_.saved_[(piece.offset + at) / page];
            bool wanted = false;
            switch (wanted_) {
                case Wanted::not_zero:
                    wanted = !is_zero(bytes);
                    break;
                case Wanted::changed_since_saved:
                    wanted = now != saved;
                    break;
                case Wanted::differing_from_file:
                    wanted = std::memcmp(bytes, buffers.file.data() + at, page) != 0;
                    break;
            }
            saved = now;
            buffers.wanted[at / page] = wanted;
        }
    }

    // Neighbours in one go.
    Result<void> write_chosen(const Run& piece, const Buffers& buffers) {
        const std::string_view memory{buffers.memory};
        const std::uint64_t count = buffers.wanted.size();
        for (std::uint64_t begin = 0; begin < count; ++begin) {
            if (!buffers.wanted[begin]) continue;
            std::uint64_t end = begin + 1;
            while (end < count && buffers.wanted[end]) ++end;
            const std::uint64_t offset = piece.offset + begin * page;
            if (auto done = write_all_at(file_, memory.substr(begin * page, (end - begin) * page),
                                         static_cast<off_t>(offset));
                !done)
                return fail(std::move(done.error()).at("write the guest's memory"));
            written_ += (end - begin) * page;
            begin = end;
        }
        return {};
    }

    GuestMemory& memory_;  // each thread touches its pieces' part of saved_ only
    const Fd& file_;
    const Wanted wanted_;
    std::vector<Run> pieces_;
    std::uint64_t bytes_ = 0;
    std::atomic<std::size_t> next_ = 0;
    std::atomic<std::uint64_t> written_ = 0;
    std::atomic<bool> failed_ = false;
    std::mutex error_mutex_;
    std::optional<Error> error_;
};

Result<std::uint64_t> GuestMemory::write(const std::vector<Run>& runs, const Fd& file, Wanted wanted,
                                         Guest guest) {
    Copy copy{*this, runs, file, wanted};
    auto written = copy.carry_out(guest == Guest::running ? 1 : most_threads);
    saved_is_known_ = written.has_value();
    return written;
}

Result<std::uint64_t> GuestMemory::write_all_to(const Fd& file, Guest guest) {
    saved_is_known_ = false;
    auto runs = own_pages(Own::all);
    if (!runs) return fail(std::move(runs.error()));
    // Over no file, what is not the guest's own is zero. Over a file, everything must be read.
    if (inode_ != 0) *runs = {{0, size_}};
    if (::ftruncate(file.get(), static_cast<off_t>(size_)) != 0)
        return fail_errno(errno, "cannot size the memory file");
    return write(*runs, file, Wanted::not_zero, guest);
}

Result<std::uint64_t> GuestMemory::write_changes_to(const Fd& file, Guest guest) {
    struct stat status {};
    if (::fstat(file.get(), &status) != 0) return fail_errno(errno, "cannot examine the memory file");
    if (static_cast<std::uint64_t>(status.st_size) != size_)
        return fail(Errc::corrupt, "the memory file has another size than the guest's memory");
    // What has been looked at and then not saved would not be looked at again.
    const bool saved_is_known = std::exchange(saved_is_known_, false);
    const auto runs = own_pages(saved_is_known ? Own::written_since_looked_at : Own::all);
    if (!runs) return fail(runs.error());
    return write(*runs, file, saved_is_known ? Wanted::changed_since_saved : Wanted::differing_from_file,
                 guest);
}

}  // namespace noid::qemu
