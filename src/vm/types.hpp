#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "base/units.hpp"
#include "vm/network_settings.hpp"
#include "vm/resources.hpp"

namespace noid::vm {

// A VM's or checkpoint's name: 1 to 64 bytes of [A-Za-z0-9_.-], not starting with '.' or '-',
// without "..". Only parse() makes one, so whoever holds a VmName holds a valid one.
class VmName {
  public:
    // `invalid` with the text that existing clients know ("VM name too long (max 64 characters)").
    [[nodiscard]] static Result<VmName> parse(std::string_view text);
    [[nodiscard]] const std::string& text() const noexcept { return text_; }
    auto operator<=>(const VmName&) const = default;

  private:
    explicit VmName(std::string text) : text_{std::move(text)} {}
    std::string text_;
};

// The closed life cycle of a VM; docs/ARCHITECTURE.md draws it. Transitions: state_machine.hpp.
enum class State : std::uint8_t {
    creating,   // files being made, or booting for the first time; not yet answered
    starting,   // booting again, or waking; not yet answered
    running,    // the agent answers
    paused,     // vCPUs stand still, memory kept
    suspended,  // on disk, no process; wakes by itself
    stopping,   // asked to shut down, not yet gone
    stopped,    // shut down; disk kept
    dead,       // the VMM ended without being asked; disk kept, start() boots again
    destroying,
};
[[nodiscard]] std::string_view name_of(State state) noexcept;  // as the API spells it
[[nodiscard]] std::optional<State> parse_state(std::string_view text) noexcept;

struct CreateRequest {
    VmName name;
    std::uint32_t cpus = 1;
    MiB memory{2048};
    std::optional<MiB> disk;                    // default: as large as the image
    std::map<std::string, std::string> labels;  // at most 64, key and value at most 256 bytes
    std::vector<std::string> env;               // "K=V" for every session in the VM
    std::string image;                          // empty: the configured rootfs
    NetworkSettings network;
    std::vector<PublishedPort> ports;
    ResourceChange resources;     // of what the server gives by itself
    bool boot = false;            // boot, whatever it could wake from
    std::string idempotency_key;  // same key, same request: the first answer again
};

// A consistent copy of what is known of one VM, for lists and `info`.
struct VmView {
    std::string name;
    State state = State::creating;
    std::uint32_t cpus = 0;
    MiB memory;
    MiB disk;  // virtual size
    std::map<std::string, std::string> labels;
    std::string image;
    std::string created_at;                    // UTC "YYYY-MM-DD HH:MM:SS"
    std::int64_t created_unix = 0;             // seconds
    std::optional<std::int64_t> started_unix;  // of the present boot
    std::string address;                       // outer address, empty without a network
    NetworkSettings network;
    std::vector<PublishedPort> ports;
    Resources resources;
    std::string vmm;                           // "qemu", "firecracker"
    std::string start_kind;                    // "boot", "template", "golden", "checkpoint", "suspension"
    std::string origin;                        // id of the checkpoint it was made from or put back to
    std::string reason;                        // why dead, or what was degraded; empty if nothing
    std::vector<std::string> warnings;         // of the create ("no network: ...")
    std::optional<std::uint64_t> disk_used;    // bytes really used on the host; filled by details()
    std::optional<std::uint64_t> memory_used;  // bytes resident of the VMM (proportional share)
    std::optional<double> cpu_seconds;         // of the VMM process
    std::optional<std::uint64_t> guest_memory_available;
    std::optional<std::uint64_t> guest_disk_free;
    std::optional<NetworkNumbers> network_numbers;   // filled by details(), where there is a network
    std::optional<vmm::MemoryNumbers> guest_memory;  // filled by details(), where there is a balloon
    std::optional<vmm::DeviceNumbers> devices;       // filled by details(), while there is a process
    std::optional<std::string> agent_version;
    std::optional<std::string> guest_os;
};

}  // namespace noid::vm
