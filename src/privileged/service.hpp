#pragma once

#include <cstdint>
#include <map>
#include <memory>

#include "base/fd.hpp"
#include "launcher/launcher.hpp"
#include "privileged/request.hpp"
#include "vmm/warden.hpp"

namespace noid::privileged {

// What the configuration of the privileged side says, and no request can.
struct Configured {
    std::filesystem::path kernel;
    std::filesystem::path initrd;
    std::filesystem::path netd_socket;
};

// The privileged side: answers the requests of a server with a warden of its own, one after the other, and
// tells how the processes ended that it started. Single-threaded.
class Service {
  public:
    Service(Fd socket, std::shared_ptr<vmm::Warden> warden, Configured configured);
    // Returns when the server has closed its end, which it also does by dying.
    void run();

  private:
    struct Child {
        launcher::Launched process;
        Fd ending;  // where to tell how it ended; none: it is not our child
    };
    // An answer without its first number, which says that all went well.
    struct Answer {
        Writer content;
        std::vector<Fd> descriptors;
    };

    [[nodiscard]] bool serve_one();
    Result<Answer> carry_out(vmm::ProcessRequest request);
    Result<Answer> carry_out(const AdoptRequest& request);
    Result<Answer> carry_out(const FilesRequest& request);
    Result<Answer> carry_out(const ProcessesRequest& request);
    Result<Answer> carry_out(const NetworkRequest& request);
    Result<Answer> carry_out(const ReclaimRequest& request);
    void carry_out(const SignalRequest& request);
    Result<Answer> look_after(launcher::Launched process, Fd ending, Fd told);
    void bury(std::uint64_t handle);

    Fd socket_;
    std::shared_ptr<vmm::Warden> warden_;
    Configured configured_;
    std::map<std::uint64_t, Child> children_;  // by handle
    std::uint64_t next_handle_ = 1;
};

}  // namespace noid::privileged
