#pragma once

#include <boost/asio/thread_pool.hpp>
#include <memory>
#include <optional>

#include "firecracker/api_client.hpp"
#include "firecracker/exit_reason.hpp"
#include "firecracker/metrics.hpp"
#include "firecracker/stdio_fifos.hpp"
#include "firecracker/version.hpp"
#include "launcher/process.hpp"
#include "vmm/vmm.hpp"
#include "vmm/warden.hpp"

namespace noid::firecracker {

// Of GET /balloon/statistics. corrupt when it is something else.
[[nodiscard]] Result<vmm::MemoryNumbers> read_balloon_statistics(std::string_view body);

// One Firecracker process in its VM's directory.
class Machine final : public vmm::Machine {
  public:
    struct Parts {
        asio::thread_pool& pool;  // for what blocks
        std::shared_ptr<vmm::Warden> warden;
        Fd directory;  // the VM's own
        MiB memory;
        vmm::Layout layout = vmm::newest_layout;
        Features features;
        launcher::Process process;
        StdioFifos stdio;
        MetricsFifo metrics;
    };
    explicit Machine(Parts parts);

    // Waits until the API answers. unavailable, with Firecracker's last words, if it ends instead.
    Awaitable<Result<void>> api_ready();
    Awaitable<Result<void>> boot(const vmm::MachineSpec& spec);
    Awaitable<Result<void>> load(const vmm::MachineSpec& spec, const vmm::SnapshotFiles& files,
                                 vmm::Vmm::Wake wake);

    [[nodiscard]] ProcessIdentity identity() const override { return process_.identity(); }
    Awaitable<Result<asio::local::stream_protocol::socket>> connect_agent() override;
    Awaitable<Result<void>> pause() override;
    Awaitable<Result<void>> resume() override;
    Awaitable<Result<vmm::SaveReport>> save(const vmm::SnapshotFiles& files, vmm::SnapshotKind kind) override;
    Awaitable<Result<std::string>> read_console() override { return stdio_.read_console(); }
    Awaitable<Result<void>> write_console(std::string_view bytes) override;
    Awaitable<Result<void>> set_balloon(MiB size) override;
    Awaitable<Result<vmm::MemoryNumbers>> memory_numbers() override;
    Awaitable<Result<void>> set_disk_limit(vmm::DiskLimit limit) override;
    Awaitable<Result<vmm::DeviceNumbers>> device_numbers() override;
    Awaitable<vmm::Exit> exited() override;
    // At once, whatever `grace`: Firecracker takes no leave of its guest.
    Awaitable<Result<void>> kill(std::chrono::milliseconds grace) override;

  private:
    // Sends what changes the machine. A refusal has Firecracker's last words when it ended over it.
    Awaitable<Result<void>> command(Request request, std::chrono::milliseconds deadline);
    Awaitable<Result<void>> change_state(Request request, ApiClient::State from, ApiClient::State to);
    Awaitable<Result<ApiClient::State>> state();
    Awaitable<Result<void>> reset_vsock();
    [[nodiscard]] std::chrono::milliseconds memory_deadline() const;

    // Bytes that Firecracker has written to files and pipes since it started; 0 if that is not known.
    Awaitable<std::uint64_t> bytes_written();

    asio::thread_pool& pool_;
    std::shared_ptr<vmm::Warden> warden_;
    Fd directory_;
    MiB memory_;
    vmm::Layout layout_;
    Features features_;
    launcher::Process process_;
    StdioFifos stdio_;
    MetricsFifo metrics_;
    ApiClient api_{directory_};
    // Not known after start, adopt, and a command that did not come to its end; Firecracker is asked then.
    std::optional<ApiClient::State> state_;
    // Whether a paused machine may have been paused with no snapshot since. Not known after adopt: it may.
    bool paused_bare_ = true;
    EndedBy ended_by_ = EndedBy::itself;
    vmm::DeviceNumbers counted_;  // of all metrics that were read
};

}  // namespace noid::firecracker
