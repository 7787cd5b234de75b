#pragma once

#include <cstdint>
#include <mutex>
#include <utility>

#include "base/error.hpp"
#include "base/units.hpp"
#include "config/server_config.hpp"
#include "store/user_database.hpp"

namespace noid::vm {

// What one user may have at once, or has.
struct Allowance {
    std::uint64_t vms = 0;
    MiB memory;               // of VMs with a process; as a limit, 0: not bounded
    std::uint64_t vcpus = 0;  // as memory
    MiB disk;                 // really used, with checkpoints; as memory
};

// One user's limits, and what is taken of them by what runs or is being written. Thread-safe, no I/O.
// It outlives the shares and claims that it gives.
class Quota {
  public:
    // `defaults` hold where `own` says nothing.
    Quota(const config::ServerConfig::Limits& defaults, store::UserLimits own);

    // Holds from now on; what runs already goes on.
    void set(const store::UserLimits& own);
    [[nodiscard]] store::UserLimits own() const;
    [[nodiscard]] Allowance allowed() const;
    // Memory and vCPUs that are taken now; the rest of the answer is the caller's to fill in.
    [[nodiscard]] Allowance running() const;

    // Memory and vCPUs of one VM that has a process, given back when this is destroyed.
    class Share;
    // limit_exceeded, with what is used, wanted and allowed.
    [[nodiscard]] Result<Share> take(std::uint32_t vcpus, MiB memory);
    // Of a VM that runs already, whatever the limit says by now.
    [[nodiscard]] Share take_over(std::uint32_t vcpus, MiB memory);

    // Space that is about to be written; destroyed when it has been, or was not.
    class Claim;
    [[nodiscard]] bool bounds_disk() const;
    // `used`: bytes, as measured now. limit_exceeded, with what is used, wanted and allowed.
    [[nodiscard]] Result<Claim> claim(std::uint64_t used, std::uint64_t wanted);

  private:
    [[nodiscard]] Allowance allowed_locked() const;
    void give_back(std::uint32_t vcpus, MiB memory) noexcept;
    void give_back(std::uint64_t bytes) noexcept;

    const config::ServerConfig::Limits defaults_;
    mutable std::mutex mutex_;
    store::UserLimits own_;
    std::uint64_t vcpus_ = 0;
    std::uint64_t memory_mib_ = 0;
    std::uint64_t claimed_bytes_ = 0;
};

class Quota::Share {
  public:
    Share(Share&& other) noexcept
        : quota_{std::exchange(other.quota_, nullptr)}, vcpus_{other.vcpus_}, memory_{other.memory_} {}
    Share& operator=(Share&& other) noexcept {
        std::swap(quota_, other.quota_);
        std::swap(vcpus_, other.vcpus_);
        std::swap(memory_, other.memory_);
        return *this;
    }
    ~Share() {
        if (quota_) quota_->give_back(vcpus_, memory_);
    }

  private:
    friend class Quota;
    Share(Quota& quota, std::uint32_t vcpus, MiB memory) noexcept
        : quota_{&quota}, vcpus_{vcpus}, memory_{memory} {}
    Quota* quota_;  // nullptr: moved away
    std::uint32_t vcpus_;
    MiB memory_;
};

class Quota::Claim {
  public:
    Claim() = default;  // of nothing
    Claim(Claim&& other) noexcept
        : quota_{std::exchange(other.quota_, nullptr)}, bytes_{std::exchange(other.bytes_, 0)} {}
    Claim& operator=(Claim&&) = delete;
    ~Claim() {
        if (quota_) quota_->give_back(bytes_);
    }

  private:
    friend class Quota;
    Claim(Quota& quota, std::uint64_t bytes) noexcept : quota_{&quota}, bytes_{bytes} {}
    Quota* quota_ = nullptr;
    std::uint64_t bytes_ = 0;
};

}  // namespace noid::vm
