#pragma once

#include <cstdint>

#include "base/async.hpp"
#include "base/error.hpp"
#include "cli/context.hpp"
#include "cli/remote_session.hpp"

namespace noid::cli {

// Which of this process's descriptors a remote command gets, beside stdout and stderr.
struct LocalEnds {
    bool input = false;  // stdin
    bool tty = false;    // the remote side has a terminal; ours becomes raw when stdin is one
};

// How a remote command went, as seen from here.
struct TerminalOutcome {
    RemoteSession::Ending ending;
    bool output_gone = false;  // nobody reads our stdout any more
    int ended_by = 0;          // the signal that made us kill or abandon it; 0: none did
};

// Runs or takes over a remote command with this process's stdin, stdout, stderr, window and
// signals. Returns when it has ended and all its output is written. The error is a local one (the
// disk below stdout is full); the command has been killed then.
//
// Ctrl-C without a tty: SIGINT to the command, again SIGINT, then kill it, then leave it.
Awaitable<Result<TerminalOutcome>> run_at_terminal(const Context& context, RemoteSession::Options options,
                                                   RemoteSession::Start start, LocalEnds ends);

// Says on stderr what there is to say and gives the exit code for the process: that of the command,
// 124 on timeout, 128+N for a signal, 255 when nobody knows.
[[nodiscard]] int report_outcome(const TerminalOutcome& outcome, const std::string& vm);

}  // namespace noid::cli
