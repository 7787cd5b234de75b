#pragma once

#include "base/async.hpp"
#include "base/error.hpp"
#include "cli/commands.hpp"
#include "cli/context.hpp"

// One function for each command, each in the file of its name. They print the result and give the
// exit code; an error is printed by the caller, who exits with 1.
namespace noid::cli {

Awaitable<Result<int>> execute(const Context& context, AuthSetup command);
Awaitable<Result<int>> execute(const Context& context, Use command);
Awaitable<Result<int>> execute(const Context& context, Current command);
Awaitable<Result<int>> execute(const Context& context, WhoAmI command);
Awaitable<Result<int>> execute(const Context& context, Create command);
Awaitable<Result<int>> execute(const Context& context, Destroy command);
Awaitable<Result<int>> execute(const Context& context, List command);
Awaitable<Result<int>> execute(const Context& context, Info command);
Awaitable<Result<int>> execute(const Context& context, Set command);
Awaitable<Result<int>> execute(const Context& context, Start command);
Awaitable<Result<int>> execute(const Context& context, Stop command);
Awaitable<Result<int>> execute(const Context& context, Pause command);
Awaitable<Result<int>> execute(const Context& context, Resume command);
Awaitable<Result<int>> execute(const Context& context, Suspend command);
Awaitable<Result<int>> execute(const Context& context, Exec command);
Awaitable<Result<int>> execute(const Context& context, Console command);
Awaitable<Result<int>> execute(const Context& context, Run command);
Awaitable<Result<int>> execute(const Context& context, Attach command);
Awaitable<Result<int>> execute(const Context& context, Ps command);
Awaitable<Result<int>> execute(const Context& context, Copy command);
Awaitable<Result<int>> execute(const Context& context, Logs command);
Awaitable<Result<int>> execute(const Context& context, Forward command);
Awaitable<Result<int>> execute(const Context& context, Policy command);
Awaitable<Result<int>> execute(const Context& context, Expose command);
Awaitable<Result<int>> execute(const Context& context, Unexpose command);
Awaitable<Result<int>> execute(const Context& context, Ports command);
Awaitable<Result<int>> execute(const Context& context, Checkpoint command);
Awaitable<Result<int>> execute(const Context& context, Checkpoints command);
Awaitable<Result<int>> execute(const Context& context, ShowCheckpoint command);
Awaitable<Result<int>> execute(const Context& context, RenameCheckpoint command);
Awaitable<Result<int>> execute(const Context& context, DeleteCheckpoint command);
Awaitable<Result<int>> execute(const Context& context, PruneCheckpoints command);
Awaitable<Result<int>> execute(const Context& context, ExportCheckpoint command);
Awaitable<Result<int>> execute(const Context& context, ImportCheckpoint command);
Awaitable<Result<int>> execute(const Context& context, Restore command);
Awaitable<Result<int>> execute(const Context& context, Fork command);
Awaitable<Result<int>> execute(const Context& context, Version command);
Awaitable<Result<int>> execute(const Context& context, Update command);
Awaitable<Result<int>> execute(const Context& context, Completion command);

}  // namespace noid::cli
