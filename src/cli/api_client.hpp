#pragma once

#include <boost/json/value.hpp>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/async.hpp"
#include "base/error.hpp"
#include "cli/client_config.hpp"
#include "cli/context.hpp"
#include "cli/http_client.hpp"
#include "wire/json.hpp"

namespace noid::cli {

// The server's REST API: requests that fail say so as the server said it.
class ApiClient {
  public:
    // The account of flags, environment and file; through a proxy only when NOID_USE_SYSTEM_PROXY
    // says so.
    [[nodiscard]] static Result<ApiClient> open(const Context& context);
    [[nodiscard]] static Result<ApiClient> open(const Environment& environment, Account account);

    // An answer below 400 of a server that speaks our version; else an error.
    Awaitable<Result<HttpAnswer>> call(HttpRequest request) const;
    // The same, and its JSON body. `what` names it in "failed to parse VM response".
    Awaitable<Result<boost::json::value>> call_json(HttpRequest request, std::string what) const;

    [[nodiscard]] const Account& account() const { return account_; }

  private:
    ApiClient(Account account, HttpClient http) : account_{std::move(account)}, http_{std::move(http)} {}

    Account account_;
    HttpClient http_;
};

// "/v1/vms/NAME/REST". The name is checked: `invalid` for one that no VM can have.
[[nodiscard]] Result<std::string> vm_target(const std::string& name, std::string_view rest = "");

// Reads T, with the error that clients of this API know.
template <class T>
[[nodiscard]] Result<T> read_answer(const boost::json::value& value, std::string_view what) {
    auto parsed = T::from_json(value);
    if (!parsed)
        return fail(Errc::corrupt,
                    "failed to parse " + std::string{what} + " response: " + parsed.error().what);
    return parsed;
}
template <class T>
[[nodiscard]] Result<std::vector<T>> read_list(const boost::json::value& value, std::string_view what) {
    auto parsed = wire::parse_array<T>(value);
    if (!parsed)
        return fail(Errc::corrupt,
                    "failed to parse " + std::string{what} + " response: " + parsed.error().what);
    return parsed;
}

}  // namespace noid::cli
