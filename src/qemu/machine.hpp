#pragma once

#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/thread_pool.hpp>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "base/fd.hpp"
#include "launcher/captured_output.hpp"
#include "launcher/process.hpp"
#include "qemu/command_line.hpp"
#include "qemu/guest_memory.hpp"
#include "qemu/qmp_client.hpp"
#include "vmm/vmm.hpp"
#include "vmm/warden.hpp"

namespace noid::qemu {

// One QEMU process. Its sockets lie in the VM's directory: control.sock (QMP), agent.sock, console.sock.
class Machine final : public vmm::Machine {
  public:
    // Has QEMU started with `beginning` and returns when the guest runs, or waits paused.
    [[nodiscard]] static Awaitable<Result<std::unique_ptr<vmm::Machine>>> launch(
        asio::thread_pool& pool, std::shared_ptr<vmm::Warden> warden, Host host, vmm::MachineSpec spec,
        Beginning beginning, std::string state_file);
    [[nodiscard]] static Awaitable<Result<std::unique_ptr<vmm::Machine>>> adopt(
        asio::thread_pool& pool, std::shared_ptr<vmm::Warden> warden, vmm::MachineSpec spec,
        ProcessIdentity identity);

    [[nodiscard]] ProcessIdentity identity() const override { return process_->identity(); }
    Awaitable<Result<asio::local::stream_protocol::socket>> connect_agent() override;
    Awaitable<Result<void>> pause() override;
    Awaitable<Result<void>> resume() override;
    Awaitable<Result<void>> save_ahead(const vmm::SnapshotFiles& files, vmm::SnapshotKind kind) override;
    Awaitable<Result<vmm::SaveReport>> save(const vmm::SnapshotFiles& files, vmm::SnapshotKind kind) override;
    Awaitable<Result<std::string>> read_console() override;
    Awaitable<Result<void>> write_console(std::string_view bytes) override;
    Awaitable<Result<void>> set_balloon(MiB size) override;
    Awaitable<Result<vmm::MemoryNumbers>> memory_numbers() override;
    Awaitable<Result<void>> set_disk_limit(vmm::DiskLimit limit) override;
    Awaitable<Result<vmm::DeviceNumbers>> device_numbers() override;
    Awaitable<vmm::Exit> exited() override;
    Awaitable<Result<void>> kill(std::chrono::milliseconds grace) override;

  private:
    // QEMU answers in about a millisecond; on a host that swaps or is overloaded it may take far longer.
    static constexpr std::chrono::seconds command_limit{10};
    class Unfinished;
    Machine(asio::any_io_executor executor, asio::thread_pool& pool, std::shared_ptr<vmm::Warden> warden,
            vmm::MachineSpec spec, Fd directory, std::unique_ptr<launcher::Process> process,
            std::optional<launcher::CapturedOutput> output, GuestMemory::Past past);

    // What QEMU is told about its devices when it has started.
    Awaitable<Result<void>> set_up_devices(MiB balloon);
    // Connects to QEMU's control socket and to the console.
    Awaitable<Result<void>> attach();
    // Waits until a machine that wakes from a snapshot has read its state.
    Awaitable<Result<void>> await_state();
    Awaitable<Result<void>> query_status();
    // Fills in memory_.
    Awaitable<Result<void>> find_memory();
    // A memory file that was written while the guest ran.
    struct Ahead {
        Fd file;
        std::uint64_t bytes = 0;
    };
    [[nodiscard]] Result<Ahead> write_memory(const std::string& name, vmm::SnapshotKind kind,
                                             GuestMemory::Guest guest);
    // Whether what was written ahead is the file of that name.
    [[nodiscard]] bool is_ahead(const std::string& name) const;
    Awaitable<Result<void>> save_device_state(std::string name);
    [[nodiscard]] Result<Fd> make_state_file(const std::string& name) const;
    [[nodiscard]] Result<void> seal(const std::string& name) const;
    void note(const QmpEvent& event);
    [[nodiscard]] std::string last_words() const;
    [[nodiscard]] vmm::Exit::How how_it_ended(const launcher::ExitStatus& status) const;

    asio::any_io_executor executor_;
    asio::thread_pool& pool_;
    std::shared_ptr<vmm::Warden> warden_;
    vmm::MachineSpec spec_;
    Fd directory_;
    std::unique_ptr<launcher::Process> process_;
    std::optional<launcher::CapturedOutput> output_;
    std::unique_ptr<QmpClient> control_;
    std::optional<asio::local::stream_protocol::socket> console_;
    Fd agent_;  // a second descriptor of the agent connection that was handed out last
    GuestMemory::Past past_;
    std::optional<GuestMemory> memory_;  // once it has been asked for
    std::optional<Ahead> ahead_;
    bool paused_ = false;
    std::string status_;  // QEMU's run state, as query_status() found it
    bool state_read_ = false;
    std::string device_state_;  // saved in this pause; empty: not saved
    bool kill_asked_ = false;
    std::string shutdown_reason_;  // of QEMU's SHUTDOWN event
};

}  // namespace noid::qemu
