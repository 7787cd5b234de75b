#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/units.hpp"
#include "vm/types.hpp"

// What is said about checkpoints: plain values. What can be done with them: vm.hpp, checkpoints.hpp.
namespace noid::vm {

// One saved instant of a VM: memory, disk and devices. It stands alone: no other checkpoint and no VM
// needs it, and it needs none.
struct CheckpointView {
    std::string id;  // 16 lower-case hexadecimal digits
    std::string vm_name;
    std::string name;    // unique among the VM's checkpoints; empty: none
    std::string label;   // free text; empty: none
    std::string parent;  // id of the checkpoint that the VM was saved to or woken from before; empty: none
    bool automatic = false;         // made by the server itself: before a rewind, by the timer
    bool has_memory = true;         // false: a disk alone (the VM was not running); going back to it boots
    std::string created_at;         // UTC "YYYY-MM-DD HH:MM:SS"
    std::int64_t created_unix = 0;  // seconds
    std::uint32_t cpus = 0;
    MiB memory;
    MiB disk;                                // virtual size
    std::uint64_t logical_bytes = 0;         // memory and disk, holes counted
    std::uint64_t written_bytes = 0;         // of memory, when it was made
    std::chrono::microseconds paused{};      // how long the VM stood still for it
    std::optional<std::uint64_t> disk_used;  // bytes that removing it would free; info() and list() fill it
    std::string vmm;                         // "qemu 7.2.22"
    std::string obstacle;                    // why this server cannot wake it; empty: it can
};

// These have constructors so that they are safe as temporaries: g++ 12 destroys an aggregate that is made
// inside a co_await expression twice.
struct CheckpointRequest {
    CheckpointRequest() = default;
    explicit CheckpointRequest(std::string with_name, std::string with_label = {})
        : name{std::move(with_name)}, label{std::move(with_label)} {}

    std::string name;   // as a VM's name; empty: none
    std::string label;  // at most 256 bytes
};

// Members that are not set stay as they are; an empty text takes away.
struct CheckpointChange {
    CheckpointChange() = default;
    CheckpointChange(std::optional<std::string> new_name, std::optional<std::string> new_label)
        : name{std::move(new_name)}, label{std::move(new_label)} {}

    std::optional<std::string> name;
    std::optional<std::string> label;
};

// Which of a VM's checkpoints go: those beyond the newest `keep`, and those older than `older_than`;
// at least one of the two is given.
struct PruneRule {
    std::optional<std::size_t> keep;
    std::optional<std::chrono::seconds> older_than;
    bool automatic_only = false;  // leave alone (and do not count) what a person made
};

struct RestoreRequest {
    RestoreRequest() = default;
    explicit RestoreRequest(std::string which, bool keep = true)
        : checkpoint{std::move(which)}, keep_present{keep} {}

    std::string checkpoint;    // id, unique prefix of an id (4 digits or more), or name
    bool keep_present = true;  // first save the VM as it is, so that going back can be undone
};

struct Restored {
    VmView vm;
    std::optional<CheckpointView> kept;  // the VM as it was before
};

struct CloneRequest {
    CloneRequest(std::string which, VmName as) : checkpoint{std::move(which)}, name{std::move(as)} {}

    std::string checkpoint;  // as in RestoreRequest
    VmName name;             // of the new VM
};

// `names` as they shall be, or `count` of them chosen as "<vm>-1", "<vm>-2", ... out of those free.
struct ForkRequest {
    ForkRequest() = default;
    explicit ForkRequest(std::vector<VmName> with_names) : names{std::move(with_names)} {}
    explicit ForkRequest(std::size_t how_many) : count{how_many} {}

    std::vector<VmName> names;
    std::size_t count = 1;  // at most 64; not used with `names`
};

// What the server does with a VM by itself.
struct VmPolicy {
    std::optional<std::chrono::seconds> checkpoint_every;  // at least 10 s
    std::size_t checkpoint_keep = 10;                      // the newest automatic ones; at least 1
    std::optional<std::chrono::seconds> idle_suspend;      // at least 10 s without session or connection
    auto operator<=>(const VmPolicy&) const = default;
};

}  // namespace noid::vm
