#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "launcher/cgroup.hpp"
#include "launcher/user_pool.hpp"
#include "vmm/warden.hpp"

namespace noid::privileged {

// A warden with the rights of the process it is in.
class LocalWarden final : public vmm::Warden {
  public:
    struct Options {
        std::filesystem::path qemu;  // the programs
        std::filesystem::path firecracker;
        // Which confined VMMs work in; none of them starts if it was not there when the warden was opened.
        std::filesystem::path data_dir;
        // VMMs run confined, as these: see qemu/jail.hpp, firecracker/jail.hpp. Needs root.
        std::optional<launcher::UserRange> users = {};
        launcher::Credentials server = {};  // whom VMs' directories belong to
        // Each confined VMM, with its guest, has a group of its own in here. None: they are not limited.
        std::shared_ptr<const launcher::Cgroups> cgroups = {};
    };
    // Tries the host's devices, too.
    [[nodiscard]] static Result<std::unique_ptr<LocalWarden>> open(Options options);

    [[nodiscard]] bool confines() const noexcept override { return options_.users.has_value(); }
    [[nodiscard]] Result<launcher::Launched> start(vmm::ProcessRequest request) override;
    // Confined VMMs begin in namespaces; those of the next one are made.
    void get_ready() override;
    [[nodiscard]] const vmm::HostDevices& devices() const noexcept override { return devices_; }
    [[nodiscard]] Result<launcher::Launched> adopt(const ProcessIdentity& process,
                                                   const std::filesystem::path& directory) override;
    [[nodiscard]] Result<vmm::ProcessFiles> files_of(const ProcessIdentity& process) override;
    [[nodiscard]] Result<std::vector<vmm::WorkingProcess>> processes() override;
    // Nothing to do where VMMs are not confined: what they make is the server's then.
    [[nodiscard]] Result<vmm::Reclaimed> reclaim(const std::filesystem::path& directory) override;

  private:
    // What a confined VMM has as long as somebody looks after it.
    struct Held;

    LocalWarden(Options options, Fd data_dir);

    // By a path that leads out of the data directory on no way.
    [[nodiscard]] Result<Fd> open_vm_directory(const std::filesystem::path& path) const;
    // forbidden unless the directory is the server's.
    [[nodiscard]] Result<struct stat> look_at_servers(const Fd& directory) const;
    // Opens the directory, and what the VMM uses of it, to the user's group.
    [[nodiscard]] Result<struct stat> hand_over(const Fd& directory, const vmm::ProcessRequest& request,
                                                gid_t group) const;
    [[nodiscard]] Result<launcher::ProcessSpec> specify(
        const vmm::ProcessRequest& request, const std::optional<launcher::Credentials>& user) const;
    [[nodiscard]] Result<launcher::Launched> start_in_directory(launcher::ProcessSpec process,
                                                                const vmm::ProcessRequest& request,
                                                                launcher::UserPool::Lease user);
    // Whether it runs as a user that only VMMs have, or is one that was started when they were not confined.
    [[nodiscard]] bool is_vmm(pid_t pid) const;
    // To be found by works_in() until nobody looks after it any more.
    void remember(const std::shared_ptr<const Held>& held);
    // Whether a VMM works in the directory: one that is looked after, wherever it may have gone since, or one
    // that nobody has adopted yet.
    [[nodiscard]] Result<bool> works_in(const struct stat& directory);

    Options options_;
    vmm::HostDevices devices_;
    Fd data_dir_;  // none: VMMs are not confined
    std::optional<launcher::UserPool> users_;
    std::mutex ready_mutex_;
    std::optional<launcher::ReadyNamespaces> ready_;
    std::mutex held_mutex_;
    std::vector<std::weak_ptr<const Held>> held_;
};

}  // namespace noid::privileged
