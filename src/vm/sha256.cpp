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

Result<std::string> content_hash(const std::filesystem::path& path) {
    const auto file = open_file(path, O_RDONLY);
    if (!file) return fail(file.error());
    struct stat status {};
    if (::fstat(file->get(), &status) != 0) return fail_errno(errno, "look at the file");
    Sha256 hash;
    std::string buffer(read_bytes, '\0');
    off_t at = 0;
    while (at < status.st_size) {
        const off_t data = ::lseek(file->get(), at, SEEK_DATA);
        if (data < 0 && errno == ENXIO) break;  // only a hole is left
        if (data < 0) return fail_errno(errno, "look for data");
        at = data - data % static_cast<off_t>(block_bytes);
        const ssize_t got = ::pread(file->get(), buffer.data(), buffer.size(), at);
        if (got < 0) return fail_errno(errno, "read the file");
        if (got == 0) break;
        std::string_view rest{buffer.data(), static_cast<std::size_t>(got)};
        while (!rest.empty()) {
            const std::string_view block = rest.substr(0, block_bytes);
            const bool zero = block.find_first_not_of('\0') == std::string_view::npos;
            if (!zero) {
                hash.add(little_endian(static_cast<std::uint64_t>(at)));
                hash.add(block);
            }
            at += static_cast<off_t>(block.size());
            rest.remove_prefix(block.size());
        }
    }
    hash.add(little_endian(static_cast<std::uint64_t>(status.st_size)));
    return hexadecimal(hash.take());
}

}  // namespace noid::vm
