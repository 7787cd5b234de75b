#include <fmt/format.h>

#include <boost/json.hpp>

#include "cli/api_client.hpp"
#include "cli/commands/execute.hpp"
#include "cli/proxy.hpp"
#include "wire/server_info.hpp"

namespace noid::cli {
namespace {

Awaitable<Result<wire::WhoAmI>> verify(const Environment& environment, Account account) {
    auto client = ApiClient::open(environment, std::move(account));
    if (!client) co_return fail(client.error());
    auto answer = co_await client->call_json(HttpRequest{HttpMethod::get, "/v1/whoami"}, "whoami");
    if (!answer) co_return fail(answer.error());
    co_return read_answer<wire::WhoAmI>(*answer, "whoami");
}

}  // namespace

Awaitable<Result<int>> execute(const Context& context, AuthSetup command) {
    auto server = ServerUrl::parse(command.url);
    if (!server) co_return fail(server.error());
    auto path = config_path(context.environment);
    if (!path) co_return fail(path.error());
    if (auto saved = save_config(*path, {server->text, command.token}); !saved) co_return fail(saved.error());

    Account account{*server, command.token};
    auto who = co_await verify(context.environment, std::move(account));
    if (context.json) {
        boost::json::object out{
            {"config", path->string()}, {"server", server->text}, {"verified", who.has_value()}};
        if (who) out["user"] = wire::to_json(*who);
        print_line(boost::json::serialize(out));
    } else {
        print_line(fmt::format("Configuration saved to {}.", path->string()));
        print_line(fmt::format("Server: {}", server->text));
        if (who) print_line(fmt::format("Authenticated as '{}' (id: {})", who->name, who->user_id));
    }
    if (!who) {
        print_notice(
            fmt::format("Warning: could not verify connection to {}: {}", server->text, who.error().what));
        if (ignores_proxy(*server, context.environment)) {
            print_notice(
                "Hint: proxy variables are set but not used; to go through the proxy set "
                "NOID_USE_SYSTEM_PROXY=1.");
        }
        print_notice("Run `noid current` to confirm the saved server URL.");
    }
    co_return 0;
}

}  // namespace noid::cli
