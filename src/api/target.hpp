#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.hpp"

namespace noid::api {

// The target of a request, taken apart: "/v1/vms/web?tail=10" is {"v1","vms","web"} and tail=10.
struct Target {
    std::vector<std::string> segments;  // percent-decoded one by one, so none gains a '/' that splits
    bool trailing_slash = false;
    std::vector<std::pair<std::string, std::string>> query;

    // invalid for what is not origin-form ("/…"), malformed escapes, NUL bytes, and too many parts.
    [[nodiscard]] static Result<Target> parse(std::string_view text);

    [[nodiscard]] std::optional<std::string_view> find(std::string_view key) const noexcept;
};

// Members of the query as numbers and switches; the error names the parameter.
[[nodiscard]] Result<std::optional<std::uint64_t>> number_parameter(const Target& target,
                                                                    std::string_view key, std::uint64_t least,
                                                                    std::uint64_t most);
// "1", "true", "yes" or nothing after the name: true. Absent, "0", "false", "no": false.
[[nodiscard]] Result<bool> flag_parameter(const Target& target, std::string_view key);

}  // namespace noid::api
