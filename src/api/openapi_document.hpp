#pragma once

#include <string_view>

namespace noid::api {

// docs/openapi.json, as it was when the program was built.
[[nodiscard]] std::string_view openapi_document() noexcept;

}  // namespace noid::api
