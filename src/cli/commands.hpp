#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "cli/quantities.hpp"
#include "wire/network.hpp"
#include "wire/resources.hpp"
#include "wire/vm.hpp"

// What the user asked for, one type for each command, as parse_arguments() reads it. What each does
// is in commands/.
namespace noid::cli {

// [NAME]: none means the active VM.
using VmArgument = std::optional<std::string>;

struct AuthSetup {
    std::string url;
    std::string token;
};
struct Use {
    std::string name;
};
struct Current {};
struct WhoAmI {};

// What a VM may reach, as options say it; what is not said stays as it is.
struct NetworkOptions {
    std::string mode;
    std::vector<wire::NetworkRule> rules;  // behind those that are there
    std::optional<std::uint64_t> upload;   // bytes per second; 0: not limited
    std::optional<std::uint64_t> download;

    [[nodiscard]] bool any() const { return !mode.empty() || has_more_than_mode(); }
    [[nodiscard]] bool has_more_than_mode() const { return !rules.empty() || upload || download; }
    // `invalid` for a mode that there is not.
    [[nodiscard]] Result<wire::Network> mode_or(wire::Network otherwise) const;
};

struct VmShape {
    std::uint32_t cpus = wire::default_cpus;
    std::uint32_t mem_mib = wire::default_mem_mib;
    std::optional<std::uint32_t> disk_mib;
    std::vector<std::string> labels;  // "K=V"
    std::vector<std::string> env;     // "K=V", of every command in the VM
    std::string image;
    NetworkOptions network;
    std::vector<std::string> ports;               // "HOST:GUEST"
    std::optional<std::uint64_t> disk_bandwidth;  // bytes per second; 0: not limited
    std::optional<std::uint64_t> disk_iops;
    bool boot = false;  // whatever it could wake from
    std::optional<Interval> idle_suspend;
};
struct Create {
    std::string name;
    VmShape shape;
};
struct Destroy {
    VmArgument vm;
};
struct List {
    std::vector<std::string> labels;  // "K=V", all of them must match
    std::vector<std::string> states;  // any of them
    std::string prefix;
    bool names_only = false;
};
struct Info {
    VmArgument vm;
    bool all = false;
};
// `set`: changes what of a VM's machine may change while it runs.
struct Set {
    VmArgument vm;
    wire::ChangeVm change;
};
struct Start {
    VmArgument vm;
};
struct Stop {
    VmArgument vm;
    bool force = false;
};
struct Pause {
    VmArgument vm;
};
struct Resume {
    VmArgument vm;
};
struct Suspend {
    VmArgument vm;
    // `--idle`: let the server do it when the VM has been idle so long.
    std::optional<Interval> idle;
};

struct CommandOptions {
    std::vector<std::string> command;  // what stands after "--"
    std::vector<std::string> env;
    std::string cwd;
    std::string user;
    std::string label;
    bool tty = false;
    bool interactive = false;  // pass stdin on even from a terminal
    bool no_input = false;
    std::optional<std::chrono::milliseconds> timeout;
    std::chrono::milliseconds hold{60'000};
};
struct Exec {
    VmArgument vm;
    CommandOptions options;
    bool detach = false;
};
struct Console {
    VmArgument vm;
    std::vector<std::string> env;
};
struct Run {
    std::string name;  // empty: one is made up
    VmShape shape;
    CommandOptions options;
    bool keep = false;
};
struct Attach {
    VmArgument vm;
    std::string session;
    std::uint64_t have_out = 0;
    std::uint64_t have_err = 0;
    bool no_input = false;
};
struct Ps {
    VmArgument vm;
};

struct Copy {
    std::string from;
    std::string to;
};
struct Logs {
    VmArgument vm;
    bool follow = false;
    std::optional<std::uint64_t> tail_bytes;
};
struct Forward {
    std::vector<std::string> words;  // [VM] [LOCAL:]PORT
    std::string address = "127.0.0.1";
};

// `policy`: shows what a VM may reach, or changes it.
struct Policy {
    VmArgument vm;
    NetworkOptions options;
    bool clear = false;  // take away the rules that are there
};
struct Expose {
    VmArgument vm;
    std::uint16_t port = 0;
    std::optional<std::uint16_t> host;  // none: one that is free
    bool is_public = false;
};
struct Unexpose {
    VmArgument vm;
    std::uint16_t port = 0;
};
struct Ports {
    VmArgument vm;
};

// `checkpoint`, `checkpoint create`: save the VM now.
struct Checkpoint {
    VmArgument vm;
    std::optional<std::string> name;
    std::optional<std::string> label;
    // `--every`: let the server do it from now on instead.
    std::optional<Interval> every;
    std::optional<std::uint32_t> keep;
};
struct Checkpoints {
    VmArgument vm;
    bool details = false;  // `checkpoint list`: more columns
};
// One checkpoint of a VM, by id, the beginning of an id, or name.
struct ShowCheckpoint {
    VmArgument vm;
    std::string checkpoint;
};
struct RenameCheckpoint {
    VmArgument vm;
    std::string checkpoint;
    std::string name;  // empty: take it away
};
struct DeleteCheckpoint {
    VmArgument vm;
    std::string checkpoint;
};
struct PruneCheckpoints {
    VmArgument vm;
    std::optional<std::uint32_t> keep;
    std::optional<std::chrono::milliseconds> older_than;
    bool automatic_only = false;
};
struct ExportCheckpoint {
    VmArgument vm;
    std::string checkpoint;
    std::string file;  // "-": stdout
};
struct ImportCheckpoint {
    VmArgument vm;
    std::string file;  // "-": stdin
    std::optional<std::string> name;
    std::optional<std::string> label;
};
struct Restore {
    VmArgument vm;
    std::string checkpoint;
    std::optional<std::string> as;
    bool discard_present = false;  // do not save the VM as it is first
};
struct Fork {
    VmArgument vm;
    std::uint32_t count = 1;
    std::vector<std::string> as;
};

struct Version {};
struct Update {};
struct Completion {
    std::string shell;
};

using Command = std::variant<AuthSetup, Use, Current, WhoAmI, Create, Destroy, List, Info, Set, Start, Stop,
                             Pause, Resume, Suspend, Exec, Console, Run, Attach, Ps, Copy, Logs, Forward,
                             Policy, Expose, Unexpose, Ports, Checkpoint, Checkpoints, ShowCheckpoint,
                             RenameCheckpoint, DeleteCheckpoint, PruneCheckpoints, ExportCheckpoint,
                             ImportCheckpoint, Restore, Fork, Version, Update, Completion>;

}  // namespace noid::cli
