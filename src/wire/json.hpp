#pragma once

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <concepts>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"

namespace noid::wire {

namespace json = boost::json;

// Parses one JSON text (UTF-8, nested at most 32 deep). invalid with what is wrong and where.
[[nodiscard]] Result<json::value> parse_json(std::string_view text, json::storage_ptr storage = {});

// Reads the members of one JSON object into typed variables and remembers the first thing that is
// wrong, as a sentence: "field 'cpus' must be an integer from 0 to 4294967295". Members that
// nobody asks for are ignored, so that either side may be newer than the other.
//
//     FieldReader fields{value};
//     fields.required("name", vm.name);
//     fields.optional("cpus", vm.cpus);
//     if (auto read = fields.done(); !read) return fail(read.error());
//
// The value must outlive the reader.
class FieldReader {
  public:
    explicit FieldReader(const json::value& value);

    template <class T>
    void required(std::string_view key, T& out) {
        if (const json::value* member = find(key)) {
            read(key, *member, out);
        } else {
            wrong("field '" + std::string{key} + "' is missing");
        }
    }
    // Leaves `out` alone when the member is absent. null counts as absent for a std::optional only.
    template <class T>
    void optional(std::string_view key, T& out) {
        if (const json::value* member = find(key)) read(key, *member, out);
    }

    // The member as it is, nullptr when absent (or when the value is no object).
    [[nodiscard]] const json::value* find(std::string_view key) const noexcept;
    // Reports a rule of the caller's own; only the first report counts.
    void wrong(std::string message);
    // "field 'KEY' must be WHAT".
    void must_be(std::string_view key, std::string_view what);

    [[nodiscard]] Result<void> done() const;

  private:
    void read(std::string_view key, const json::value& value, bool& out);
    void read(std::string_view key, const json::value& value, double& out);
    void read(std::string_view key, const json::value& value, std::string& out);
    void read(std::string_view key, const json::value& value, std::vector<std::string>& out);
    void read(std::string_view key, const json::value& value, std::map<std::string, std::string>& out);
    template <std::integral T>
    void read(std::string_view key, const json::value& value, T& out) {
        using Limits = std::numeric_limits<T>;
        if constexpr (std::is_signed_v<T>) {
            std::int64_t number = 0;
            if (read_signed(key, value, Limits::min(), Limits::max(), number)) out = static_cast<T>(number);
        } else {
            std::uint64_t number = 0;
            if (read_unsigned(key, value, Limits::max(), number)) out = static_cast<T>(number);
        }
    }
    template <class T>
    void read(std::string_view key, const json::value& value, std::optional<T>& out) {
        if (value.is_null()) {
            out.reset();
            return;
        }
        T inner{};
        read(key, value, inner);
        out = std::move(inner);
    }
    bool read_signed(std::string_view key, const json::value& value, std::int64_t least, std::int64_t most,
                     std::int64_t& out);
    bool read_unsigned(std::string_view key, const json::value& value, std::uint64_t most,
                       std::uint64_t& out);

    const json::object* object_ = nullptr;
    std::optional<std::string> wrong_;
};

[[nodiscard]] json::array to_json(const std::vector<std::string>& strings, json::storage_ptr storage = {});

// A JSON array of T, each read by T::from_json.
template <class T>
[[nodiscard]] Result<std::vector<T>> parse_array(const json::value& value) {
    if (!value.is_array()) return fail(Errc::invalid, "expected a JSON array");
    std::vector<T> out;
    out.reserve(value.get_array().size());
    for (const json::value& element : value.get_array()) {
        auto parsed = T::from_json(element);
        if (!parsed) return fail(std::move(parsed).error().at("element " + std::to_string(out.size())));
        out.push_back(std::move(*parsed));
    }
    return out;
}

}  // namespace noid::wire
