#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <span>

#include "base/fd.hpp"
#include "vmm/warden.hpp"

namespace noid::privileged {

// A warden that asks the privileged part of this server, at the other end of `socket`. Requests wait for
// each other; signals do not.
class RemoteWarden final : public vmm::Warden, public std::enable_shared_from_this<RemoteWarden> {
  public:
    // `devices`: as the privileged part has tried them.
    RemoteWarden(Fd socket, vmm::HostDevices devices) noexcept
        : socket_{std::move(socket)}, devices_{std::move(devices)} {}

    [[nodiscard]] bool confines() const noexcept override { return true; }
    [[nodiscard]] Result<launcher::Launched> start(vmm::ProcessRequest request) override;
    [[nodiscard]] const vmm::HostDevices& devices() const noexcept override { return devices_; }
    [[nodiscard]] Result<launcher::Launched> adopt(const ProcessIdentity& process,
                                                   const std::filesystem::path& directory) override;
    [[nodiscard]] Result<vmm::ProcessFiles> files_of(const ProcessIdentity& process) override;
    [[nodiscard]] Result<std::vector<vmm::WorkingProcess>> processes() override;
    [[nodiscard]] Result<vmm::Reclaimed> reclaim(const std::filesystem::path& directory) override;
    // A connection to noid-netd, which speaks for root. not_found or unavailable when nobody listens.
    [[nodiscard]] Result<Fd> connect_to_network();

    // Nothing is asked any more: the privileged part ends.
    void close() noexcept;

  private:
    struct Answer;
    [[nodiscard]] Result<Answer> ask(const std::string& bytes, std::span<const int> descriptors);
    [[nodiscard]] Result<launcher::Launched> process_in(Answer answer);
    [[nodiscard]] Result<void> signal(std::uint64_t handle, int number) const;

    Fd socket_;
    vmm::HostDevices devices_;
    std::mutex mutex_;  // held from a request to its answer
    std::mutex handles_mutex_;
    std::map<ProcessIdentity, std::uint64_t> handles_;  // as long as the process is looked after
};

}  // namespace noid::privileged
