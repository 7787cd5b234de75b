// A checkpoint that a client sends: any bytes, or records of any content, well compressed and with the right
// hashes where they are chosen, which blind bytes would never have. Whatever it says, no file becomes larger
// than allowed, and in what pieces it comes does not matter.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include <array>
#include <memory>
#include <optional>
#include <string>

#include "base/file.hpp"
#include "base/temporary_directory.hpp"
#include "input.hpp"
#include "vm/checkpoint_stream.hpp"
#include "vm/sha256.hpp"

using namespace noid;

namespace {

constexpr std::string_view magic{"NOIDCP\0\1", 8};
constexpr vm::StreamLimits limits{MiB{8}, MiB{8}};
constexpr std::uint64_t largest_state = 64 << 20;
constexpr std::array files{vm::disk_file, vm::memory_file, vm::state_file};

std::string number(std::uint64_t value, int bytes) {
    std::string text;
    for (int i = 0; i < bytes; ++i) text.push_back(static_cast<char>(value >> (8 * i)));
    return text;
}

std::string description(fuzz::Input& input) {
    vm::SnapshotConfig config;
    config.id = config.vm_id = "0123456789abcdef";
    config.vm_name = "web";
    config.has_memory = (input.number<std::uint8_t>() & 1) == 0;
    config.memory = MiB{1};
    config.disk = MiB{2};
    config.vmm = "qemu";
    config.vmm_version = "1";
    return config.to_json();
}

// Records that fit as a rule: each of the fuzzer's choice, with what a wrong one would be refused for put
// right.
std::string chosen_records(fuzz::Input& input) {
    std::string records;
    vm::Sha256 digest;
    std::size_t at = 0;
    while (!input.empty()) {
        const auto kind = input.number<std::uint8_t>();
        switch (kind % 8) {
            case 0: {
                const auto text = description(input);
                records += "C" + number(text.size(), 4) + text;
                break;
            }
            case 1: {
                const std::string text{input.take(input.number<std::uint8_t>())};
                records += "C" + number(text.size(), 4) + text;
                break;
            }
            case 2: {
                const std::string name = files[at++ % files.size()];
                const auto mib = name == vm::disk_file ? 2 : 1;
                records += "F" + number(name.size(), 1) + name + number(std::uint64_t(mib) << 20, 8);
                break;
            }
            case 3: {
                const std::string name{input.take(input.number<std::uint8_t>() % 16)};
                records += "F" + number(name.size(), 1) + name + number(input.number<std::uint64_t>(), 8);
                break;
            }
            case 4:
            case 5: {
                const std::uint64_t offset = (kind & 8) != 0
                                                 ? input.number<std::uint64_t>()
                                                 : std::uint64_t{input.number<std::uint16_t>()} << 5;
                const std::size_t size = input.number<std::uint8_t>();
                const std::string bytes =
                    (kind & 16) != 0 ? std::string(size * 1024, 'x') : std::string{input.take(size)};
                const auto header = "D" + number(offset, 8) + number(bytes.size(), 4);
                digest.add(header);
                digest.add(bytes);
                records += header + bytes;
                break;
            }
            case 6:
                records += "E" + ((kind & 8) != 0 ? std::string{input.take(32)} : digest.take());
                break;
            default:
                records += (kind & 8) != 0 ? std::string{input.take(input.number<std::uint8_t>())} : "Z";
        }
    }
    return records;
}

std::string compressed(const std::string& records) {
    std::string out(ZSTD_compressBound(records.size()), '\0');
    out.resize(ZSTD_compress(out.data(), out.size(), records.data(), records.size(), 1));
    return out;
}

struct Reading {
    std::optional<Errc> error;
    std::string description;
    std::array<std::string, files.size()> hashes;
    bool operator==(const Reading&) const = default;
};

Reading read(std::string_view stream, std::size_t step, const TemporaryDirectory& place) {
    const auto directory = open_directory(place.path());
    fuzz::require(directory.has_value(), "no directory");
    for (const auto* name : files) ::unlinkat(directory->get(), name, 0);
    auto reader = vm::CheckpointReader::create(place.path(), limits);
    fuzz::require(reader.has_value(), "no reader");
    Reading reading;
    Result<void> taken;
    while (taken && !stream.empty()) {
        taken = (*reader)->write(stream.substr(0, step));
        stream.remove_prefix(std::min(step, stream.size()));
    }
    const auto config = taken ? (*reader)->finish() : fail(taken.error());
    std::uint64_t sizes = 0;
    for (std::size_t i = 0; i < files.size(); ++i) {
        struct stat status {};
        if (::fstatat(directory->get(), files[i], &status, AT_SYMLINK_NOFOLLOW) != 0) continue;
        fuzz::require(S_ISREG(status.st_mode), "something that is no file");
        const auto size = static_cast<std::uint64_t>(status.st_size);
        fuzz::require(size <= (files[i] == vm::state_file ? largest_state : limits.disk.bytes()),
                      "a file that is too large");
        sizes += size;
        if (config) reading.hashes[i] = *vm::content_hash(place.path() / files[i]);
    }
    fuzz::require((*reader)->bytes_put() <= sizes, "more was written than there is room for");
    if (config) {
        reading.description = config->to_json();
        fuzz::require(config->memory <= limits.memory && config->disk <= limits.disk, "too large a machine");
        fuzz::require(vm::SnapshotConfig::from_json(reading.description).has_value(),
                      "a description that is not read again");
    } else {
        reading.error = config.error().code;
    }
    return reading;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    // In memory: a disk would be most of the work.
    static const auto whole_place = TemporaryDirectory::create("/dev/shm").value();
    static const auto pieces_place = TemporaryDirectory::create("/dev/shm").value();
    fuzz::Input input{data, size};
    const auto choice = input.number<std::uint8_t>();
    const std::size_t step = 1 + std::size_t{16} * input.number<std::uint8_t>();
    std::string stream;
    switch (choice % 4) {
        case 0:
            stream = input.all();
            break;
        case 1:
            stream = std::string{magic} + std::string{input.all()};
            break;
        case 2:
            stream = std::string{magic} + compressed(std::string{input.all()});
            break;
        default:
            stream = std::string{magic} + compressed(chosen_records(input));
    }
    const auto whole = read(stream, stream.size() + 1, whole_place);
    const auto pieces = read(stream, step, pieces_place);
    fuzz::require(whole == pieces, "the pieces in which it comes matter");
    return 0;
}
