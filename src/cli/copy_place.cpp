#include "cli/copy_place.hpp"

#include <fmt/format.h>

namespace noid::cli {

Result<CopyPlace> CopyPlace::parse(std::string_view text) {
    if (text.empty()) return fail(Errc::invalid, "an empty path names nothing");
    if (text == "-") return CopyPlace{Where::standard_stream, {}, {}};
    const auto colon = text.find(':');
    if (colon == std::string_view::npos || text.substr(0, colon).find('/') != std::string_view::npos ||
        text.starts_with('.'))
        return CopyPlace{Where::host, {}, std::string{text}};
    CopyPlace place{Where::guest, {}, std::string{text.substr(colon + 1)}};
    if (colon > 0) place.vm = std::string{text.substr(0, colon)};
    if (!place.path.starts_with('/')) {
        return fail(Errc::invalid,
                    fmt::format("'{0}': a path in a VM begins with a slash (NAME:/PATH). For a file here of "
                                "that name write './{0}'",
                                text));
    }
    return place;
}

std::string_view last_component(std::string_view path) {
    while (path.ends_with('/')) path.remove_suffix(1);
    const auto slash = path.rfind('/');
    return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

std::string join_path(std::string_view directory, std::string_view name) {
    return fmt::format("{}{}{}", directory, directory.ends_with('/') ? "" : "/", name);
}

}  // namespace noid::cli
