#include "vm/sha256.hpp"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>

#include "base/file.hpp"

namespace noid::vm {

namespace {

constexpr std::size_t hash_bytes = 32;
constexpr std::size_t block_bytes = 4096;
constexpr std::size_t read_bytes = 256 * block_bytes;

std::string little_endian(std::uint64_t value) {
    std::string bytes;
    for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<char>(value >> (8 * i)));
    return bytes;
}

std::string hexadecimal(std::string_view bytes) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string text;
    for (const char c : bytes) {
        const auto byte = static_cast<unsigned char>(c);
        text.push_back(digits[byte >> 4]);
        text.push_back(digits[byte & 15]);
    }
    return text;
}

}  // namespace

Sha256::Sha256() : context_{EVP_MD_CTX_new()} {
    EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr);
}

void Sha256::Free::operator()(EVP_MD_CTX* context) const noexcept {
    EVP_MD_CTX_free(context);
}

void Sha256::add(std::string_view bytes) {
    EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size());
}

std::string Sha256::take() {
    std::string hash(hash_bytes, '\0');
    EVP_DigestFinal_ex(context_.get(), reinterpret_cast<unsigned char*>(hash.data()), nullptr);
    EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr);
    return hash;
}

void ContentHash::add(std::uint64_t offset, std::string_view bytes) {
    while (!bytes.empty()) {
        const std::uint64_t within = offset % block_bytes;
        if (offset - within != block_offset_) finish_block(block_bytes);
        block_offset_ = offset - within;
        const std::string_view piece = bytes.substr(0, block_bytes - within);
        block_.resize(within, '\0');
        block_ += piece;
        offset += piece.size();
        bytes.remove_prefix(piece.size());
    }
}

void ContentHash::finish_block(std::size_t length) {
    if (block_.find_first_not_of('\0') != std::string::npos) {
        block_.resize(length, '\0');
        hash_.add(little_endian(block_offset_));
        hash_.add(block_);
    }
    block_.clear();
}

// The last block ends where the file does.
std::string ContentHash::take(std::uint64_t size) {
    const std::uint64_t left = size > block_offset_ ? size - block_offset_ : 0;
    finish_block(static_cast<std::size_t>(std::min<std::uint64_t>(block_bytes, left)));
    block_offset_ = 0;
    hash_.add(little_endian(size));
    return hexadecimal(hash_.take());
}

Result<std::string> content_hash(const std::filesystem::path& path, const std::function<bool()>& go_on) {
    const auto file = open_file(path, O_RDONLY);
    if (!file) return fail(file.error());
    struct stat status {};
    if (::fstat(file->get(), &status) != 0) return fail_errno(errno, "look at the file");
    ContentHash hash;
    std::string buffer(read_bytes, '\0');
    off_t at = 0;
    while (at < status.st_size) {
        if (go_on && !go_on()) return fail(Errc::cancelled, "the hash is not wanted any more");
        const off_t data = ::lseek(file->get(), at, SEEK_DATA);
        if (data < 0 && errno == ENXIO) break;  // only a hole is left
        if (data < 0) return fail_errno(errno, "look for data");
        at = data - data % static_cast<off_t>(block_bytes);
        const ssize_t got = ::pread(file->get(), buffer.data(), buffer.size(), at);
        if (got < 0) return fail_errno(errno, "read the file");
        if (got == 0) break;
        hash.add(static_cast<std::uint64_t>(at), {buffer.data(), static_cast<std::size_t>(got)});
        at += got;
    }
    return hash.take(static_cast<std::uint64_t>(status.st_size));
}

}  // namespace noid::vm
