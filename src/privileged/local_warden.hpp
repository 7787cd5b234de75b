#pragma once

#include <filesystem>
#include <memory>
#include <optional>

#include "launcher/user_pool.hpp"
#include "vmm/warden.hpp"

namespace noid::privileged {

// A warden with the rights of the process it is in.
class LocalWarden final : public vmm::Warden {
  public:
    struct Options {
        std::filesystem::path data_dir;  // exists
        std::filesystem::path qemu;      // the programs
        std::filesystem::path firecracker;
        std::optional<launcher::UserRange> users;  // VMMs run confined, as these. Needs root
        launcher::Credentials server;              // whom VMs' directories belong to
    };
    [[nodiscard]] static Result<std::unique_ptr<LocalWarden>> open(Options options);

    [[nodiscard]] bool confines() const noexcept override { return options_.users.has_value(); }
    [[nodiscard]] Result<launcher::Launched> start(vmm::ProcessRequest request) override;
    [[nodiscard]] Result<launcher::Launched> adopt(const ProcessIdentity& process) override;
    [[nodiscard]] Result<vmm::ProcessFiles> files_of(const ProcessIdentity& process) override;
    [[nodiscard]] Result<std::vector<vmm::WorkingProcess>> processes() override;

  private:
    LocalWarden(Options options, Fd data_dir, std::string mark);

    // By a path that leads out of the data directory on no way.
    [[nodiscard]] Result<Fd> open_vm_directory(const std::filesystem::path& path) const;
    // Opens the directory, and what the VMM uses of it, to the user's group.
    [[nodiscard]] Result<void> hand_over(const Fd& directory, const vmm::ProcessRequest& request,
                                         gid_t group) const;
    [[nodiscard]] Result<launcher::ProcessSpec> specify(
        const vmm::ProcessRequest& request, const std::optional<launcher::Credentials>& user) const;
    // Whether it is a VMM of this data directory.
    [[nodiscard]] bool is_ours(pid_t pid) const;

    Options options_;
    Fd data_dir_;
    std::string mark_;  // in the environment of every VMM, at its beginning
    std::optional<launcher::UserPool> users_;
};

}  // namespace noid::privileged
