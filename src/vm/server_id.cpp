#include "vm/server_id.hpp"

#include <algorithm>

#include "base/file.hpp"
#include "base/random.hpp"

namespace noid::vm {

namespace {

constexpr const char* file_name = "server-id";
constexpr std::size_t id_bytes = 16;

bool is_id(std::string_view text) {
    return text.size() == 2 * id_bytes &&
           std::ranges::all_of(text, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

}  // namespace

Result<std::string> server_id(const std::filesystem::path& data_directory) {
    const auto directory = open_directory(data_directory);
    if (!directory) return fail(directory.error());
    auto text = read_file_at(*directory, file_name, 2 * id_bytes);
    if (text && is_id(*text)) return text;
    if (!text && text.error().code != Errc::not_found) return text;
    std::string fresh = random_hex(id_bytes);
    if (auto written = replace_file_at(*directory, file_name, fresh); !written)
        return fail(std::move(written.error()));
    return fresh;
}

}  // namespace noid::vm
