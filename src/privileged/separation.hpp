#pragma once

#include <sys/types.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <vector>

#include "base/error.hpp"
#include "base/fd.hpp"
#include "privileged/remote_warden.hpp"
#include "privileged/server_user.hpp"
#include "privileged/service.hpp"

namespace noid::privileged {

// A process of root's made two, as sshd does: see docs/adr. This one goes on as the server's user; its child
// keeps of root what VMMs take, answers requests, and ends with this one.
class Separation {
  public:
    struct Plan {
        ServerUser user;
        std::filesystem::path data_dir;
        Configured configured;
        std::shared_ptr<vmm::Warden> warden;           // for the privileged part
        std::vector<std::filesystem::path> reachable;  // what else the server reads, whatever is above it
        std::vector<int> own_descriptors;              // that the privileged part does not keep
        std::vector<int> own_capabilities;             // CAP_…, that the server keeps; as a rule none
        std::function<Result<void>()> as_root;  // done by this process before it is the user's; or none
    };
    // Forks. To be called before there are threads; afterwards this process is the user's, without any
    // capability but its own ones. Waits for the privileged part of a server that has just ended.
    [[nodiscard]] static Result<Separation> begin(Plan plan);

    Separation(Separation&&) noexcept = default;
    Separation& operator=(Separation&&) = delete;
    // Waits until the privileged part has ended, as it does at once when nobody is left to ask it.
    ~Separation();

    [[nodiscard]] const std::shared_ptr<RemoteWarden>& warden() const noexcept { return warden_; }
    // Becomes readable when the privileged part has ended: then nothing can be started any more.
    [[nodiscard]] const Fd& ended() const noexcept { return child_; }

  private:
    Separation(std::shared_ptr<RemoteWarden> warden, Fd child) noexcept
        : warden_{std::move(warden)}, child_{std::move(child)} {}

    std::shared_ptr<RemoteWarden> warden_;
    Fd child_;  // its pidfd
};

}  // namespace noid::privileged
