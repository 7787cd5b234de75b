#include "cli/api_client.hpp"

#include "cli/proxy.hpp"
#include "cli/server_answer.hpp"
#include "wire/names.hpp"

namespace noid::cli {

Result<ApiClient> ApiClient::open(const Context& context) {
    auto account = resolve_account(context.account, context.environment);
    if (!account) return fail(account.error());
    return open(context.environment, std::move(*account));
}

Result<ApiClient> ApiClient::open(const Environment& environment, Account account) {
    auto proxy = choose_proxy(account.server, environment);
    if (!proxy) return fail(proxy.error());
    HttpClient http{account.server, account.token, std::move(*proxy)};
    return ApiClient{std::move(account), std::move(http)};
}

Awaitable<Result<HttpAnswer>> ApiClient::call(HttpRequest request) const {
    auto answer = co_await http_.send(std::move(request));
    if (!answer) co_return answer;
    if (const auto theirs = answer->header("X-Noid-Api-Version")) {
        if (auto same = check_api_version(*theirs); !same) co_return fail(same.error());
    }
    if (answer->status >= 400) co_return fail(error_of_answer(answer->status, answer->body));
    co_return answer;
}

Awaitable<Result<boost::json::value>> ApiClient::call_json(HttpRequest request, std::string what) const {
    auto answer = co_await call(std::move(request));
    if (!answer) co_return fail(answer.error());
    auto value = wire::parse_json(answer->body);
    if (!value) {
        co_return fail(Errc::corrupt, "failed to parse " + what + " response: " + value.error().what);
    }
    co_return std::move(*value);
}

Result<std::string> vm_target(const std::string& name, std::string_view rest) {
    if (auto valid = wire::check_vm_name(name); !valid) return fail(valid.error());
    return "/v1/vms/" + name + std::string{rest};
}

}  // namespace noid::cli
