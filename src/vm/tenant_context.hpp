#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "store/tenant_database.hpp"
#include "vm/checkpoint_index.hpp"
#include "vm/data_directory.hpp"
#include "vm/quota.hpp"

namespace noid::vm {

// What all VMs of one user share. Thread-safe: the fixed parts never change.
struct TenantContext {
    TenantContext(std::string id, std::string name, TenantPaths where,
                  const config::ServerConfig::Limits& defaults, const store::UserLimits& own)
        : user_id{std::move(id)},
          user_name{std::move(name)},
          paths{std::move(where)},
          checkpoints{paths.checkpoints()},
          quota{defaults, own} {}

    std::string user_id;
    std::string user_name;
    TenantPaths paths;
    CheckpointIndex checkpoints;
    Quota quota;
    std::unique_ptr<store::TenantDatabase> database;  // blocking: on Host::databases only
    std::atomic<std::uint64_t> revision{1};           // grows with every visible change of a VM
};

}  // namespace noid::vm
