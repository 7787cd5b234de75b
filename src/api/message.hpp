#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.hpp"

// HTTP as the endpoints see it: values, without Beast.
namespace noid::api {

enum class Method : std::uint8_t { get, head, post, put, patch, delete_, options, other };
[[nodiscard]] std::string_view name_of(Method method) noexcept;

struct Response {
    unsigned status = 200;
    std::string content_type;  // empty: no body
    std::string body;
    std::vector<std::pair<std::string, std::string>> headers;
    // The endpoint wrote its answer itself, as a stream.
    bool sent = false;

    [[nodiscard]] static Response json(std::string body, unsigned status = 200);
    [[nodiscard]] static Response text(std::string body, unsigned status = 200);
    [[nodiscard]] static Response no_content();
    [[nodiscard]] static Response already_sent();
};

// The one place where failures become status codes.
[[nodiscard]] unsigned status_of(Errc code) noexcept;
// {"error","code","request_id"} with the status of the error's code.
[[nodiscard]] Response to_response(const Error& error, std::string_view request_id);
// The same with a status that no Errc has (405, 426, 431, ...).
[[nodiscard]] Response problem(unsigned status, std::string_view code, std::string_view message,
                               std::string_view request_id);

}  // namespace noid::api
