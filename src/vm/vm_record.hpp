#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/process_identity.hpp"
#include "base/units.hpp"
#include "store/tenant_database.hpp"
#include "vm/checkpoint.hpp"
#include "vm/network.hpp"
#include "vm/types.hpp"

namespace noid::vm {

// What a VM is, fixed when it is made. vm.json in the VM's directory holds it; that file is also
// the mark of a directory that is complete.
struct VmRecord {
    std::string id;  // 16 hexadecimal digits; never reused
    VmName name;
    std::uint32_t cpus = 1;
    MiB memory;
    MiB disk;  // virtual size
    std::map<std::string, std::string> labels;
    std::vector<std::string> env;
    std::string image;
    NetworkSettings network;
    Resources resources;
    std::string machine_id;  // 32 hexadecimal digits
    std::int64_t created_unix = 0;
    std::string vmm;  // "qemu": what ran it first; see VmStatus::vmm
    std::vector<std::string> warnings;

    [[nodiscard]] std::string to_json() const;
    // corrupt when the text is not a record.
    [[nodiscard]] static Result<VmRecord> from_json(std::string_view text);
};

// Which snapshots a VM has to do with.
struct Lineage {
    // What of it an incremental save may start from.
    enum class Basis : std::uint8_t {
        none,    // booted, or a save failed: the next save writes everything
        woken,   // memory.snap in the VM's directory, which it woke from
        parent,  // the memory of the checkpoint `parent`
    } basis = Basis::none;
    std::string origin;  // id of the checkpoint it was made from or put back to
    std::string parent;  // id of the checkpoint it was last saved to or woken from
};

// What a VM is at present; the database holds it.
struct VmStatus {
    State state = State::creating;
    std::string reason;
    std::string start_kind = "boot";
    std::optional<std::int64_t> started_unix;
    std::optional<ProcessIdentity> process;
    std::string vmm;  // "qemu": whose process or saved memory it has, or had last
    std::optional<Slot> slot;
    Lineage lineage;
    VmPolicy policy;
    std::optional<NetworkSettings> network;  // when they are no more what the record says
    std::optional<Resources> resources;      // likewise
    vmm::Layout layout = 0;                  // of the machine that it has, or had last
    std::vector<PublishedPort> ports;
    std::string notice;  // for the view's warnings, not kept over a restart of the server

    [[nodiscard]] store::VmRuntime to_row() const;
    [[nodiscard]] static Result<VmStatus> from_row(const store::VmRuntime& row);
};

[[nodiscard]] store::VmRow to_row(const VmRecord& record, const VmStatus& status);

// Steps of IntentData that recovery asks for.
inline constexpr const char* restore_switching = "switching";  // what ran is being ended for the successor

// What an interrupted operation needs to be finished or undone.
struct IntentData {
    IntentData() = default;
    // Not an aggregate: g++ 12 destroys one that is made inside a co_await expression twice.
    explicit IntentData(std::string of_vm, std::optional<ProcessIdentity> its_process = {},
                        std::string of_checkpoint = {})
        : vm_id{std::move(of_vm)}, process{its_process}, checkpoint{std::move(of_checkpoint)} {}

    std::string vm_id;
    std::optional<ProcessIdentity> process;  // a VMM that was started for it
    std::string step;                        // how far it came, where that decides between undo and finish
    std::string checkpoint;                  // id of the one that is made or gone back to
    std::vector<std::string> clones;         // ids of the VMs that a fork makes

    [[nodiscard]] std::string to_json() const;
    [[nodiscard]] static IntentData from_json(std::string_view text);  // unreadable: empty
};

// Writes vm.json whole or not at all, mode 0600. Blocking.
[[nodiscard]] Result<void> write_record(const std::filesystem::path& vm_directory, const VmRecord& record);
// not_found without the file, corrupt when it is not a record. Blocking.
[[nodiscard]] Result<VmRecord> read_record(const std::filesystem::path& vm_directory);

// UTC "YYYY-MM-DD HH:MM:SS".
[[nodiscard]] std::string utc_text(std::int64_t unix_seconds);

}  // namespace noid::vm
