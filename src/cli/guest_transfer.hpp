#pragma once

#include "base/async.hpp"
#include "base/error.hpp"
#include "cli/byte_stream.hpp"
#include "cli/context.hpp"
#include "cli/remote_session.hpp"
#include "cli/vm_request.hpp"

namespace noid::cli {

// Where the bytes of a transfer come from or go to on this side: exactly one of both is set.
struct TransferEnd {
    ByteSource source;
    ByteSink sink;
};

struct TransferOutcome {
    int ended_by = 0;  // the signal that ended it before it was done; 0: it is done
};

// Moves a file or an archive into or out of a VM. A broken connection, also by a restart of the server, is
// waited through: the transfer goes on at the byte where it was. The error is that of the source or sink, or
// what the guest or the server says. Signals end the transfer; the VM has nothing of a file that did not
// arrive whole.
Awaitable<Result<TransferOutcome>> transfer(const Context& context, const VmOnServer& vm,
                                            RemoteSession::Transfer what, TransferEnd local);

}  // namespace noid::cli
