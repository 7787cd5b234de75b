#include "cli/version.hpp"

#include <fmt/format.h>

#include <boost/json.hpp>

#include "cli/api_client.hpp"
#include "cli/commands/execute.hpp"
#include "cli/failure.hpp"
#include "wire/server_info.hpp"

namespace noid::cli {
namespace {

Awaitable<Result<wire::Version>> ask_server(const Context& context) {
    auto server = resolve_server(context.account, context.environment);
    if (!server) co_return fail(server.error());
    auto client = ApiClient::open(context.environment, Account{std::move(*server), ""});
    if (!client) co_return fail(client.error());
    auto answer = co_await client->call_json(HttpRequest{HttpMethod::get, "/version"}, "version");
    if (!answer) co_return fail(answer.error());
    co_return read_answer<wire::Version>(*answer, "version");
}

}  // namespace

Awaitable<Result<int>> execute(const Context& context, Version) {
    // That there is no server is an answer here, not a failure.
    const auto server = co_await ask_server(context);
    if (context.json) {
        boost::json::object out{{"client", {{"version", version}, {"api_version", api_version}}},
                                {"server", nullptr}};
        if (server) out["server"] = wire::to_json(*server);
        if (!server) out["server_error"] = server.error().what;
        print_line(boost::json::serialize(out));
        co_return 0;
    }
    print_line(fmt::format("Client: {} (API {})", version, api_version));
    print_line(server ? fmt::format("Server: {} (API {})", printable(server->version), server->api)
                      : fmt::format("Server: unknown ({})", server.error().what));
    co_return 0;
}

}  // namespace noid::cli
