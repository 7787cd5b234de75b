#include <fmt/format.h>

#include <boost/json/serialize.hpp>

#include "cli/api_client.hpp"
#include "cli/commands/execute.hpp"
#include "cli/failure.hpp"
#include "wire/server_info.hpp"

namespace noid::cli {

Awaitable<Result<int>> execute(const Context& context, WhoAmI) {
    auto client = ApiClient::open(context);
    if (!client) co_return fail(client.error());
    auto answer = co_await client->call_json(HttpRequest{HttpMethod::get, "/v1/whoami"}, "whoami");
    if (!answer) co_return fail(answer.error());
    auto who = read_answer<wire::WhoAmI>(*answer, "whoami");
    if (!who) co_return fail(who.error());
    if (context.json) {
        print_line(boost::json::serialize(*answer));
    } else {
        print_line(fmt::format("User: {}\nID:   {}", printable(who->name), printable(who->user_id)));
    }
    co_return 0;
}

}  // namespace noid::cli
