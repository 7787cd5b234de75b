#pragma once

#include "base/async.hpp"
#include "base/error.hpp"
#include "cli/commands.hpp"
#include "cli/context.hpp"
#include "cli/vm_request.hpp"
#include "wire/exec.hpp"

namespace noid::cli {

// The request for a command, with its environment checked.
[[nodiscard]] Result<wire::ExecRequest> exec_request(const CommandOptions& options);

// Whether our stdin is the command's: when it is no terminal, or when it was asked for.
[[nodiscard]] bool passes_input(const CommandOptions& options);

// Runs the command at this terminal, over WebSocket, or over REST where something on the way knows
// no WebSocket; under --json over REST, with the answer printed. Gives the exit code.
Awaitable<Result<int>> run_command(const Context& context, VmOnServer vm, CommandOptions options);

}  // namespace noid::cli
