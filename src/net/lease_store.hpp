#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include "base/error.hpp"
#include "base/fd.hpp"
#include "net/policy.hpp"
#include "net/protocol.hpp"
#include "net/slot_address.hpp"

namespace noid::net {

// Who has a slot, and on what terms.
struct Lease {
    std::string vm;
    uid_t user = 0;  // who asked for it; nobody else but root may change it
    Holder holder;
    Mac guest_mac = inner::guest_mac;
    Policy policy;
    bool asleep = false;  // its VM is suspended and is to wake when somebody sends to it
};

// The leases as files, one a slot, so that a daemon that starts again knows whom its slots belong to.
// They lie in /run: a slot does not outlive the kernel it is in.
class LeaseStore {
  public:
    // Makes `directory` if need be, for root only.
    [[nodiscard]] static Result<LeaseStore> open(const std::filesystem::path& directory);

    // The file is whole or not there.
    [[nodiscard]] Result<void> put(std::uint32_t index, const Lease& lease);
    [[nodiscard]] Result<void> erase(std::uint32_t index);
    // All leases. A file that cannot be understood is no lease; its name goes into `unreadable`.
    [[nodiscard]] Result<std::map<std::uint32_t, Lease>> load(std::vector<std::string>& unreadable) const;

  private:
    LeaseStore(std::filesystem::path path, Fd directory)
        : path_{std::move(path)}, directory_{std::move(directory)} {}

    std::filesystem::path path_;
    Fd directory_;
};

}  // namespace noid::net
