#include "wire/json.hpp"

#include <boost/json/parser.hpp>

namespace noid::wire {

Result<json::value> parse_json(std::string_view text, json::storage_ptr storage) {
    json::parse_options options;
    options.max_depth = 32;
    json::parser parser{storage, options};
    json::error_code error;
    const std::size_t used = parser.write_some(text, error);
    if (error) return fail(Errc::invalid, error.message() + " at byte " + std::to_string(used));
    if (text.find_first_not_of(" \t\r\n", used) != std::string_view::npos)
        return fail(Errc::invalid, "unexpected text after the JSON value at byte " + std::to_string(used));
    return parser.release();
}

FieldReader::FieldReader(const json::value& value) : object_{value.if_object()} {
    if (object_ == nullptr) wrong_ = "expected a JSON object";
}

const json::value* FieldReader::find(std::string_view key) const noexcept {
    return object_ == nullptr ? nullptr : object_->if_contains(key);
}

void FieldReader::wrong(std::string message) {
    if (!wrong_) wrong_ = std::move(message);
}

void FieldReader::must_be(std::string_view key, std::string_view what) {
    wrong("field '" + std::string{key} + "' must be " + std::string{what});
}

Result<void> FieldReader::done() const {
    if (wrong_) return fail(Errc::invalid, *wrong_);
    return {};
}

void FieldReader::read(std::string_view key, const json::value& value, bool& out) {
    if (!value.is_bool()) return must_be(key, "true or false");
    out = value.get_bool();
}

void FieldReader::read(std::string_view key, const json::value& value, double& out) {
    if (!value.is_number()) return must_be(key, "a number");
    out = value.to_number<double>();
}

void FieldReader::read(std::string_view key, const json::value& value, std::string& out) {
    if (!value.is_string()) return must_be(key, "a string");
    out.assign(value.get_string());
}

void FieldReader::read(std::string_view key, const json::value& value, std::vector<std::string>& out) {
    if (!value.is_array()) return must_be(key, "an array of strings");
    out.clear();
    out.reserve(value.get_array().size());
    for (const json::value& element : value.get_array()) {
        if (!element.is_string()) return must_be(key, "an array of strings");
        out.emplace_back(element.get_string());
    }
}

void FieldReader::read(std::string_view key, const json::value& value,
                       std::map<std::string, std::string>& out) {
    if (!value.is_object()) return must_be(key, "an object of strings");
    out.clear();
    for (const json::key_value_pair& member : value.get_object()) {
        if (!member.value().is_string()) return must_be(key, "an object of strings");
        out.emplace(member.key(), member.value().get_string());
    }
}

bool FieldReader::read_signed(std::string_view key, const json::value& value, std::int64_t least,
                              std::int64_t most, std::int64_t& out) {
    if (value.is_int64() && value.get_int64() >= least && value.get_int64() <= most) {
        out = value.get_int64();
        return true;
    }
    must_be(key, "an integer from " + std::to_string(least) + " to " + std::to_string(most));
    return false;
}

bool FieldReader::read_unsigned(std::string_view key, const json::value& value, std::uint64_t most,
                                std::uint64_t& out) {
    // Boost.JSON holds what fits as int64 and only larger numbers as uint64.
    if (value.is_int64() && value.get_int64() >= 0) {
        out = static_cast<std::uint64_t>(value.get_int64());
        if (out <= most) return true;
    } else if (value.is_uint64()) {
        out = value.get_uint64();
        if (out <= most) return true;
    }
    must_be(key, "an integer from 0 to " + std::to_string(most));
    return false;
}

json::array to_json(const std::vector<std::string>& strings, json::storage_ptr storage) {
    json::array out(std::move(storage));
    out.reserve(strings.size());
    for (const std::string& text : strings) out.emplace_back(text);
    return out;
}

}  // namespace noid::wire
