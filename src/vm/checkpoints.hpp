#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/async.hpp"
#include "base/error.hpp"
#include "vm/checkpoint.hpp"
#include "vm/types.hpp"

namespace noid::vm {

// A checkpoint as a stream of bytes; docs/checkpoint-stream.md has the format. One caller at a time.
class CheckpointSource {
  public:
    CheckpointSource() = default;
    CheckpointSource(const CheckpointSource&) = delete;
    CheckpointSource& operator=(const CheckpointSource&) = delete;
    virtual ~CheckpointSource() = default;

    // The next bytes, at most 256 KiB; empty at the end.
    virtual Awaitable<Result<std::string>> next() = 0;
};

// Takes such a stream in. Dropped before finish() succeeded: nothing is left.
class CheckpointSink {
  public:
    CheckpointSink() = default;
    CheckpointSink(const CheckpointSink&) = delete;
    CheckpointSink& operator=(const CheckpointSink&) = delete;
    virtual ~CheckpointSink() = default;

    // corrupt as soon as the stream cannot be one; no_space; limit_exceeded by the user's limits;
    // unsupported when the VMM or the CPU does not fit, with the reason.
    virtual Awaitable<Result<void>> write(std::string bytes) = 0;
    // All bytes are written: checks the hashes and publishes the checkpoint under a new id.
    virtual Awaitable<Result<CheckpointView>> finish() = 0;
};

// One user's checkpoints. `vm` is the VM that they are listed under; `which` an id, a unique prefix of
// one (4 digits or more), or a name. A checkpoint of another of the user's VMs is found by its id or
// prefix too. not_found: "checkpoint 'x' not found"; conflict when a prefix fits several.
// Thread-safe; members may be awaited from any executor.
class Checkpoints {
  public:
    Checkpoints() = default;
    Checkpoints(const Checkpoints&) = delete;
    Checkpoints& operator=(const Checkpoints&) = delete;
    virtual ~Checkpoints() = default;

    // Ordered by creation; empty for a VM that has none or does not exist.
    virtual Awaitable<Result<std::vector<CheckpointView>>> list(const VmName& vm) = 0;
    virtual Awaitable<Result<CheckpointView>> info(const VmName& vm, std::string which) = 0;
    // conflict when another checkpoint of the VM has the name.
    virtual Awaitable<Result<CheckpointView>> change(const VmName& vm, std::string which,
                                                     CheckpointChange change) = 0;
    // VMs that run on it are not hurt. Gives what was removed.
    virtual Awaitable<Result<CheckpointView>> remove(const VmName& vm, std::string which) = 0;
    virtual Awaitable<Result<std::vector<CheckpointView>>> prune(const VmName& vm, PruneRule rule) = 0;

    // Puts the VM back in place: same name, same address, processes as they were then. When this fails
    // the VM is as it was before. unsupported when this host cannot wake the checkpoint, with the reason.
    virtual Awaitable<Result<Restored>> restore(const VmName& vm, RestoreRequest request) = 0;
    // A new VM out of a checkpoint; all or nothing, as Tenant::create.
    virtual Awaitable<Result<VmView>> clone(const VmName& vm, CloneRequest request) = 0;
    // Saves the VM and makes clones of that instant, all or none; the VM runs on.
    virtual Awaitable<Result<std::vector<VmView>>> fork(const VmName& vm, ForkRequest request) = 0;

    virtual Awaitable<Result<std::unique_ptr<CheckpointSource>>> export_stream(const VmName& vm,
                                                                               std::string which) = 0;
    // The checkpoint will be listed under `vm`, which need not exist.
    virtual Awaitable<Result<std::unique_ptr<CheckpointSink>>> import_stream(const VmName& vm,
                                                                             CheckpointRequest request) = 0;
};

}  // namespace noid::vm
