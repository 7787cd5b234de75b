#include "api/hop_fields.hpp"

#include <boost/beast/core/string.hpp>

namespace noid::api {

bool same(std::string_view a, std::string_view b) noexcept {
    return boost::beast::iequals({a.data(), a.size()}, {b.data(), b.size()});
}

std::string_view trimmed(std::string_view text) noexcept {
    while (text.starts_with(' ') || text.starts_with('\t')) text.remove_prefix(1);
    while (text.ends_with(' ') || text.ends_with('\t')) text.remove_suffix(1);
    return text;
}

std::vector<std::string> named_by_connection(const std::vector<HeaderField>& fields) {
    std::vector<std::string> names;
    for (const HeaderField& field : fields) {
        if (same(field.name, "Connection"))
            split(field.value, ',', [&](std::string_view name) { names.emplace_back(name); });
    }
    return names;
}

}  // namespace noid::api
