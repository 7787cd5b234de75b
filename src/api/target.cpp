#include "api/target.hpp"

#include <charconv>

namespace noid::api {

namespace {

constexpr std::size_t max_segments = 16;
constexpr std::size_t max_parameters = 32;

int hex_digit(char c) noexcept {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

enum class Plus : bool { literal, space };

Result<std::string> decode(std::string_view text, Plus plus) {
    std::string out;
    out.reserve(text.size());
    for (std::size_t i = 0; i < text.size(); ++i) {
        char c = text[i];
        if (c == '+' && plus == Plus::space) c = ' ';
        if (c == '%') {
            if (i + 2 >= text.size() || hex_digit(text[i + 1]) < 0 || hex_digit(text[i + 2]) < 0)
                return fail(Errc::invalid, "malformed percent escape in the request target");
            c = static_cast<char>(hex_digit(text[i + 1]) * 16 + hex_digit(text[i + 2]));
            i += 2;
        }
        if (c == '\0') return fail(Errc::invalid, "NUL byte in the request target");
        out.push_back(c);
    }
    return out;
}

// The part of `rest` before `separator`, which is taken off together with it.
std::string_view take_until(std::string_view& rest, char separator) noexcept {
    const std::size_t at = rest.find(separator);
    const std::string_view part = rest.substr(0, at);
    rest.remove_prefix(at == std::string_view::npos ? rest.size() : at + 1);
    return part;
}

}  // namespace

Result<Target> Target::parse(std::string_view text) {
    if (!text.starts_with('/')) return fail(Errc::invalid, "the request target must begin with '/'");
    Target target;
    std::string_view query = text.substr(0, text.find('#'));
    std::string_view path = take_until(query, '?');
    path.remove_prefix(1);
    while (!path.empty()) {
        const bool last = path.find('/') == std::string_view::npos;
        if (target.segments.size() == max_segments) return fail(Errc::invalid, "the path has too many parts");
        auto segment = decode(take_until(path, '/'), Plus::literal);
        if (!segment) return fail(std::move(segment).error());
        target.segments.push_back(std::move(*segment));
        target.trailing_slash = !last && path.empty();
    }
    while (!query.empty()) {
        std::string_view value = take_until(query, '&');
        if (value.empty()) continue;
        if (target.query.size() == max_parameters)
            return fail(Errc::invalid, "the query has too many parameters");
        auto key = decode(take_until(value, '='), Plus::space);
        if (!key) return fail(std::move(key).error());
        auto decoded = decode(value, Plus::space);
        if (!decoded) return fail(std::move(decoded).error());
        target.query.emplace_back(std::move(*key), std::move(*decoded));
    }
    return target;
}

std::optional<std::string_view> Target::find(std::string_view key) const noexcept {
    for (const auto& [name, value] : query) {
        if (name == key) return value;
    }
    return std::nullopt;
}

Result<std::optional<std::uint64_t>> number_parameter(const Target& target, std::string_view key,
                                                      std::uint64_t least, std::uint64_t most) {
    const auto text = target.find(key);
    if (!text) return std::nullopt;
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), number);
    if (error != std::errc{} || end != text->data() + text->size() || number < least || number > most)
        return fail(Errc::invalid, "parameter '" + std::string{key} + "' must be an integer from " +
                                       std::to_string(least) + " to " + std::to_string(most));
    return number;
}

Result<bool> flag_parameter(const Target& target, std::string_view key) {
    const auto text = target.find(key);
    if (!text || *text == "0" || *text == "false" || *text == "no") return false;
    if (text->empty() || *text == "1" || *text == "true" || *text == "yes") return true;
    return fail(Errc::invalid, "parameter '" + std::string{key} + "' must be true or false");
}

}  // namespace noid::api
