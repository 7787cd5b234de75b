#pragma once

#include <boost/json/value.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/async.hpp"
#include "base/error.hpp"
#include "cli/api_client.hpp"
#include "cli/commands.hpp"
#include "cli/context.hpp"

namespace noid::cli {

// A VM to talk about and the server that has it.
struct VmOnServer {
    ApiClient client;
    std::string name;    // valid
    std::string target;  // "/v1/vms/NAME"
};

// The VM of an argument, or the active one, with a client for it.
[[nodiscard]] Result<VmOnServer> find_vm(const Context& context, const VmArgument& argument);

// What the server answered, as it came and as it was read.
template <class T>
struct Answered {
    boost::json::value json;
    T value;
};
// A request whose answer is a T, or an array of T; `what` names it in errors.
template <class T>
Awaitable<Result<Answered<T>>> ask(const VmOnServer& vm, HttpRequest request, std::string what) {
    auto answer = co_await vm.client.call_json(std::move(request), what);
    if (!answer) co_return fail(answer.error());
    auto value = read_answer<T>(*answer, what);
    if (!value) co_return fail(value.error());
    co_return Answered<T>{std::move(*answer), std::move(*value)};
}
template <class T>
Awaitable<Result<Answered<std::vector<T>>>> ask_list(const VmOnServer& vm, HttpRequest request,
                                                     std::string what) {
    auto answer = co_await vm.client.call_json(std::move(request), what);
    if (!answer) co_return fail(answer.error());
    auto list = read_list<T>(*answer, what);
    if (!list) co_return fail(list.error());
    co_return Answered<std::vector<T>>{std::move(*answer), std::move(*list)};
}

// POST .../VERB without a body, with `doing` ("Starting") as progress; then prints
// "VM 'x' DONE", or the server's answer as JSON.
Awaitable<Result<int>> change_state(const Context& context, VmArgument argument, std::string verb,
                                    std::string doing, std::string done);

}  // namespace noid::cli
