#pragma once

#include "config/server_config.hpp"
#include "doctor/check.hpp"

// The host's side of `noid-server doctor`: each function tries the thing itself rather than looking
// for a file. All block for a moment; none changes anything that outlives the call.
namespace noid::doctor {

// The guest kernel is an ELF that the VMMs can start.
[[nodiscard]] Finding check_kernel(const config::ServerConfig& config);
[[nodiscard]] Finding check_initrd(const config::ServerConfig& config);
// The root file system image exists and carries an ext4 superblock.
[[nodiscard]] Finding check_rootfs(const config::ServerConfig& config);
// The data directory can be written by this user.
[[nodiscard]] Finding check_data_directory(const config::ServerConfig& config);
// Files in the data directory can share blocks (FICLONE).
[[nodiscard]] Finding check_reflink(const config::ServerConfig& config);
[[nodiscard]] Finding check_free_disk(const config::ServerConfig& config);
// The listen address can be bound, or a Noid server answers there.
[[nodiscard]] Finding check_listen_address(const config::ServerConfig& config);
// Whether this kernel tells which pages of a guest were written.
[[nodiscard]] Finding check_pauses();
[[nodiscard]] Finding check_ip_forwarding();
// The kernel's generator is seeded: getrandom does not block.
[[nodiscard]] Finding check_entropy();
// Enough descriptors for the configured number of VMs and sessions.
[[nodiscard]] Finding check_descriptor_limit(const config::ServerConfig& config);
// cgroup v2 with the controllers that bound a VMM.
[[nodiscard]] Finding check_cgroups();

}  // namespace noid::doctor
