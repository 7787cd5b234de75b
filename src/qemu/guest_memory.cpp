#include "qemu/guest_memory.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <sstream>
#include <string_view>
#include <utility>

#include "base/file.hpp"

namespace noid::qemu {

namespace {

constexpr std::uint64_t page = 4096;
constexpr std::uint64_t chunk = 1 << 20;  // bytes looked at in one step; stays in the CPU's cache

// Bits of an entry in /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst).
constexpr std::uint64_t page_present = std::uint64_t{1} << 63;
constexpr std::uint64_t page_swapped = std::uint64_t{1} << 62;
constexpr std::uint64_t page_of_file = std::uint64_t{1} << 61;

bool is_own(std::uint64_t entry) {
    return (entry & (page_present | page_swapped)) != 0 && (entry & page_of_file) == 0;
}

bool is_zero(const char* bytes) {
    static const char zeros[page] = {};
    return std::memcmp(bytes, zeros, page) == 0;
}

// Writes those pages of `memory`, which belongs at `offset`, for which `wanted` holds; neighbours in one go.
template <class Wanted>
Result<std::uint64_t> write_pages(const Fd& file, std::string_view memory, std::uint64_t offset,
                                  Wanted wanted) {
    std::uint64_t written = 0;
    for (std::uint64_t at = 0; at < memory.size();) {
        if (!wanted(at)) {
            at += page;
            continue;
        }
        std::uint64_t end = at + page;
        while (end < memory.size() && wanted(end)) end += page;
        if (auto done = write_all_at(file, memory.substr(at, end - at), static_cast<off_t>(offset + at));
            !done)
            return fail(std::move(done.error()).at("write the guest's memory"));
        written += end - at;
        at = end;
    }
    return written;
}

}  // namespace

Result<GuestMemory> GuestMemory::open(pid_t process, std::uint64_t address, MiB size) {
    if (address == 0 || address % page != 0) return fail(Errc::corrupt, "the guest's memory was not found");
    GuestMemory memory;
    memory.process_ = process;
    memory.address_ = address;
    memory.size_ = size.bytes();
    return memory;
}

Result<std::vector<GuestMemory::Run>> GuestMemory::own_pages() const {
    auto pagemap = open_file(fmt::format("/proc/{}/pagemap", process_), O_RDONLY);
    if (!pagemap) return fail(std::move(pagemap.error()));
    std::vector<Run> runs;
    std::vector<std::uint64_t> entries(32 * 1024);
    for (std::uint64_t offset = 0; offset < size_;) {
        const std::uint64_t wanted = std::min<std::uint64_t>(entries.size(), (size_ - offset) / page);
        const ssize_t got = ::pread(pagemap->get(), entries.data(), wanted * sizeof entries[0],
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

Result<GuestMemory::Mapping> GuestMemory::mapping() const {
    const auto maps = read_file(fmt::format("/proc/{}/maps", process_), 4 << 20);
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
        Mapping mapping;
        fields >> std::hex >> begin >> dash >> end >> permissions >> file_offset >> device >> std::dec >>
            mapping.inode;
        if (!fields) return fail(Errc::corrupt, "unexpected line in the process's memory map");
        if (address_ < begin || address_ >= end) continue;
        if (permissions != "rw-p" || end - address_ < size_)
            return fail(Errc::corrupt, "the guest's memory is not mapped as expected");
        return mapping;
    }
    return fail(Errc::corrupt, "the guest's memory is not mapped");
}

Result<bool> GuestMemory::lies_over(const Fd& file) const {
    const auto mapped = mapping();
    if (!mapped) return fail(mapped.error());
    struct stat status {};
    if (::fstat(file.get(), &status) != 0) return fail_errno(errno, "cannot examine the memory file");
    return mapped->inode != 0 && mapped->inode == status.st_ino;
}

Result<void> GuestMemory::read(std::uint64_t offset, std::string& buffer) const {
    std::size_t done = 0;
    while (done < buffer.size()) {
        const iovec local{buffer.data() + done, buffer.size() - done};
        const iovec remote{reinterpret_cast<void*>(address_ + offset + done), buffer.size() - done};
        const ssize_t got = ::process_vm_readv(process_, &local, 1, &remote, 1, 0);
        if (got <= 0) return fail_errno(got < 0 ? errno : EFAULT, "cannot read the guest's memory");
        done += static_cast<std::size_t>(got);
    }
    return {};
}

Result<std::uint64_t> GuestMemory::write_all_to(const Fd& file) const {
    const auto mapped = mapping();
    if (!mapped) return fail(mapped.error());
    std::vector<Run> runs{{0, size_}};
    // Over no file, what is not the guest's own is zero. Over a file, everything must be read.
    if (mapped->inode == 0) {
        auto own = own_pages();
        if (!own) return fail(std::move(own.error()));
        runs = std::move(*own);
    }
    if (::ftruncate(file.get(), static_cast<off_t>(size_)) != 0)
        return fail_errno(errno, "cannot size the memory file");
    std::uint64_t written = 0;
    std::string memory;
    for (const Run& run : runs) {
        for (std::uint64_t at = 0; at < run.size; at += chunk) {
            memory.resize(std::min(chunk, run.size - at));
            if (auto done = read(run.offset + at, memory); !done) return fail(std::move(done.error()));
            const auto is_data = [&](std::uint64_t in_chunk) { return !is_zero(memory.data() + in_chunk); };
            auto wrote = write_pages(file, memory, run.offset + at, is_data);
            if (!wrote) return fail(std::move(wrote.error()));
            written += *wrote;
        }
    }
    return written;
}

Result<std::uint64_t> GuestMemory::write_changes_to(const Fd& file) const {
    struct stat status {};
    if (::fstat(file.get(), &status) != 0) return fail_errno(errno, "cannot examine the memory file");
    if (static_cast<std::uint64_t>(status.st_size) != size_)
        return fail(Errc::corrupt, "the memory file has another size than the guest's memory");
    const auto runs = own_pages();
    if (!runs) return fail(runs.error());
    std::uint64_t written = 0;
    std::string memory;
    std::string before;
    for (const Run& run : *runs) {
        for (std::uint64_t at = 0; at < run.size; at += chunk) {
            memory.resize(std::min(chunk, run.size - at));
            before.resize(memory.size());
            const std::uint64_t offset = run.offset + at;
            if (auto done = read(offset, memory); !done) return fail(std::move(done.error()));
            const ssize_t got = ::pread(file.get(), before.data(), before.size(), static_cast<off_t>(offset));
            if (got != static_cast<ssize_t>(before.size()))
                return fail_errno(got < 0 ? errno : EIO, "cannot read the memory file");
            const auto differs = [&](std::uint64_t in_chunk) {
                return std::memcmp(memory.data() + in_chunk, before.data() + in_chunk, page) != 0;
            };
            auto wrote = write_pages(file, memory, offset, differs);
            if (!wrote) return fail(std::move(wrote.error()));
            written += *wrote;
        }
    }
    return written;
}

}  // namespace noid::qemu
