#pragma once

#include <boost/json/value.hpp>
#include <string>

#include "base/async.hpp"
#include "base/error.hpp"
#include "cli/api_client.hpp"
#include "cli/commands.hpp"
#include "cli/context.hpp"
#include "wire/vm.hpp"

namespace noid::cli {

// A VM made just now: what the server said, as text and taken apart.
struct CreatedVm {
    boost::json::value json;
    wire::VmInfo info;
};

// The request for a VM of this name and shape, checked by the rules of the server.
[[nodiscard]] Result<wire::CreateVm> creation_request(std::string name, const VmShape& shape);

// Creates the VM and waits until it answers, showing progress. When the connection breaks meanwhile
// it is asked for again under the same idempotency key, so that one VM comes of it.
Awaitable<Result<CreatedVm>> create_vm(const Context& context, const ApiClient& client,
                                       wire::CreateVm request);

// "K=V" texts as a map. `invalid` without "=" or with an empty key.
[[nodiscard]] Result<std::map<std::string, std::string>> parse_labels(const std::vector<std::string>& labels);

}  // namespace noid::cli
