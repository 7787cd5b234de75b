#pragma once

#include <string>
#include <string_view>

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

// POST .../VERB without a body, with `doing` ("Starting") as progress; then prints
// "VM 'x' DONE", or the server's answer as JSON.
Awaitable<Result<int>> change_state(const Context& context, VmArgument argument, std::string verb,
                                    std::string doing, std::string done);

}  // namespace noid::cli
