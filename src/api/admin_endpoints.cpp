#include <boost/json/array.hpp>

#include "admin/engine_answers.hpp"
#include "api/endpoint_input.hpp"
#include "api/endpoints.hpp"
#include "wire/server_info.hpp"

namespace noid::api {

using admin::to_wire;

Awaitable<Result<Response>> list_users(Call& call) {
    auto users = co_await call.services.engine.users();
    if (!users) co_return fail(std::move(users).error());
    boost::json::array list;
    for (vm::User& user : *users) list.emplace_back(wire::to_json(to_wire(std::move(user))));
    co_return json_response(list);
}

Awaitable<Result<Response>> create_user(Call& call) {
    auto request = read_json<wire::CreateUser>(call);
    if (!request) co_return fail(std::move(request).error());
    auto made = co_await call.services.engine.create_user(std::move(request->name));
    if (!made) co_return fail(std::move(made).error());
    co_return json_response(wire::to_json(to_wire(std::move(*made))), 201);
}

Awaitable<Result<Response>> rotate_token(Call& call) {
    auto made = co_await call.services.engine.rotate_token(std::string{call.parameter("name")});
    if (!made) co_return fail(std::move(made).error());
    call.services.browsers.revoke_user(made->user.name);
    call.services.streams.end_all(made->user.name,
                                  Error{Errc::unauthenticated, "the token was replaced by another", {}});
    co_return json_response(wire::to_json(to_wire(std::move(*made))));
}

Awaitable<Result<Response>> get_limits(Call& call) {
    auto limits = co_await call.services.engine.limits(std::string{call.parameter("name")});
    if (!limits) co_return fail(std::move(limits).error());
    co_return json_response(wire::to_json(to_wire(*limits)));
}

Awaitable<Result<Response>> put_limits(Call& call) {
    auto request = read_json<wire::OwnLimits>(call);
    if (!request) co_return fail(std::move(request).error());
    const auto wanted = admin::from_wire(*request);
    if (!wanted) co_return fail(wanted.error());
    auto limits = co_await call.services.engine.set_limits(std::string{call.parameter("name")}, *wanted);
    if (!limits) co_return fail(std::move(limits).error());
    co_return json_response(wire::to_json(to_wire(*limits)));
}

Awaitable<Result<Response>> delete_user(Call& call) {
    const std::string name{call.parameter("name")};
    const Error why{Errc::unauthenticated, "the user was deleted", {}};
    // Before: so that clients hear this rather than that their VM is gone. After: for those that came
    // in between.
    call.services.streams.end_all(name, why);
    auto user = co_await call.services.engine.delete_user(name);
    if (!user) co_return fail(std::move(user).error());
    call.services.browsers.revoke_user(name);
    call.services.streams.end_all(name, why);
    co_return json_response(wire::to_json(to_wire(std::move(*user))));
}

}  // namespace noid::api
