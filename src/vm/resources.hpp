#pragma once

#include <boost/json/fwd.hpp>
#include <cstdint>
#include <optional>

#include "base/error.hpp"
#include "base/units.hpp"
#include "config/server_config.hpp"
#include "vmm/devices.hpp"

// What a VM's owner may change of it while it exists.
namespace noid::vm {

struct Resources {
    MiB balloon;  // of its memory, that the guest is asked to give back to the host
    vmm::DiskLimit disk;
    bool operator==(const Resources&) const = default;
};

// What shall change; the rest stays.
struct ResourceChange {
    std::optional<MiB> balloon;
    std::optional<std::uint64_t> disk_bytes_per_second;  // 0: not limited
    std::optional<std::uint64_t> disk_operations_per_second;

    [[nodiscard]] Resources applied_to(Resources resources) const;
};

// For a VM with so much memory. `invalid`: the balloon leaves the guest too little, or a limit is so tight
// that nothing would go on; `limit_exceeded`: more than the server gives.
[[nodiscard]] Result<void> check(const Resources& resources, MiB memory,
                                 const config::ServerConfig::Limits& limits);

// What a new VM gets that asks for `change`: else the server's defaults.
[[nodiscard]] Resources resources_of_new_vm(const ResourceChange& change,
                                            const config::ServerConfig::Limits& limits);
// What a clone gets of what its origin had: no more than this server gives, and nothing that cannot be.
[[nodiscard]] Resources resources_of_clone(Resources origin, MiB memory,
                                           const config::ServerConfig::Limits& limits);

// As our files have them: members of the VM's or snapshot's own object, left out where they are 0.
void put_resources(boost::json::object& object, const Resources& resources);
// corrupt when one of them is no number.
[[nodiscard]] Result<Resources> read_resources(const boost::json::value& object);

}  // namespace noid::vm
