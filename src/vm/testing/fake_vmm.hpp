#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/file.hpp"
#include "channel/agent_channel.hpp"
#include "launcher/process.hpp"
#include "vm/host.hpp"
#include "vm/network.hpp"
#include "vmm/vmm.hpp"

// Test doubles at the engine's seams. The machine is a real process (sleep) that works in the VM's
// directory, so that ending, adopting and finding processes is tested for real; only the guest is
// made up.
namespace noid::vm {

// What the test wants to happen; shared by all doubles of one test.
struct Script {
    std::mutex mutex;
    std::optional<Error> start_fails;
    std::optional<Error> network_fails;
    std::optional<Error> identity_fails;
    std::string fail_at;  // a step of StepHook
    std::string die_at;   // a step of StepHook where the process kills itself
    std::string hold_at;  // a step of StepHook that goes on once `hold_until` has been taken
    std::string hold_until;
    bool guest_silent = false;     // the agent never answers
    bool guest_powers_off = true;  // when asked to shut down
    bool no_network = false;
    // Of the servers that are opened from now on:
    vmm::Kind vmm_kind = vmm::Kind::qemu;
    bool connection_outlives_pause = true;

    std::optional<Error> adopt_fails;
    std::optional<Error> save_fails;
    unsigned resumes_that_time_out = 0;  // the next ones; the VM stays as it is
    std::optional<Error> restore_fails;

    std::optional<Error> balloon_fails;
    std::map<pid_t, vmm::MachineSpec> specs;  // that machines were started with, by process
    std::map<pid_t, MiB> balloons;            // that were set since
    std::map<pid_t, vmm::DiskLimit> disk_limits;

    std::vector<ProcessIdentity> processes;  // all that were ever started
    std::vector<vmm::SnapshotKind> saves;
    std::set<std::string> slots;                        // lent now
    std::size_t most_slots = 16384;                     // that are lent at once
    std::map<std::string, std::uint32_t> slot_numbers;  // a VM that asks again gets the same
    std::set<std::string> asleep;                       // of these, by VM's id
    std::function<void(std::string)> knock;             // somebody sends to this VM; empty: nobody watches
    std::function<void(std::string)> lose;              // this VM's slot is gone
    std::map<std::string, NetworkSettings> network;     // in force, by VM's id
    std::uint32_t connections = 0;                      // of every VM
    std::string server_id;                              // as retain() was told
    std::vector<proto::Identity> identities;            // given to guests, in order
    std::vector<std::string> steps;
    std::condition_variable step_taken;
    std::uint32_t reconnects = 0;
    bool traffic_held = false;  // of the guest asked last
};

// A machine keeps what its guest has in memory, and whether it stands still, in files of its directory, so
// that another server process finds it there.
[[nodiscard]] std::filesystem::path guest_memory_file(const std::filesystem::path& directory, pid_t pid);
[[nodiscard]] std::filesystem::path pause_mark(const std::filesystem::path& directory, pid_t pid);

class FakeMachine final : public vmm::Machine {
  public:
    FakeMachine(std::shared_ptr<Script> script, launcher::Process process, const vmm::MachineSpec& spec)
        : script_{std::move(script)},
          process_{std::move(process)},
          opened_{open_directory(spec.directory).value()},
          directory_{"/proc/self/fd/" + std::to_string(opened_.get())},
          layout_{spec.layout} {}

    [[nodiscard]] ProcessIdentity identity() const override { return process_.identity(); }
    Awaitable<Result<asio::local::stream_protocol::socket>> connect_agent() override;
    Awaitable<Result<void>> pause() override;
    Awaitable<Result<void>> resume() override;
    Awaitable<Result<vmm::SaveReport>> save(const vmm::SnapshotFiles&, vmm::SnapshotKind) override;
    Awaitable<Result<std::string>> read_console() override;
    Awaitable<Result<void>> write_console(std::string_view bytes) override;
    Awaitable<Result<void>> set_balloon(MiB size) override;
    Awaitable<Result<vmm::MemoryNumbers>> memory_numbers() override;
    Awaitable<Result<void>> set_disk_limit(vmm::DiskLimit limit) override;
    Awaitable<Result<vmm::DeviceNumbers>> device_numbers() override;
    Awaitable<vmm::Exit> exited() override;
    Awaitable<Result<void>> kill(std::chrono::milliseconds grace) override;

  private:
    std::shared_ptr<Script> script_;
    launcher::Process process_;
    Fd opened_;  // like a VMM, it stays in its directory, whatever that is called
    std::filesystem::path directory_;
    vmm::Layout layout_;
    bool greeted_ = false;
};

class FakeVmm final : public vmm::Vmm {
  public:
    explicit FakeVmm(std::shared_ptr<Script> script) : script_{std::move(script)} {
        description_.kind = script_->vmm_kind;
        description_.connection_outlives_pause = script_->connection_outlives_pause;
    }
    [[nodiscard]] const vmm::Description& description() const override { return description_; }
    Awaitable<Result<std::unique_ptr<vmm::Machine>>> start(const vmm::MachineSpec& spec) override;
    Awaitable<Result<std::unique_ptr<vmm::Machine>>> restore(const vmm::MachineSpec&,
                                                             const vmm::SnapshotFiles&, Wake) override;
    Awaitable<Result<std::unique_ptr<vmm::Machine>>> adopt(const vmm::MachineSpec&, ProcessIdentity) override;

  private:
    Awaitable<Result<std::unique_ptr<vmm::Machine>>> launch(vmm::MachineSpec spec, std::string memory,
                                                            bool paused);

    std::shared_ptr<Script> script_;
    vmm::Description description_{
        .version = "1", .accelerator = "tcg", .cpu_fingerprint = "cpu", .can_pause_bare = true};
};

class FakeNetwork final : public Network {
  public:
    explicit FakeNetwork(std::shared_ptr<Script> script) : script_{std::move(script)} {}
    Awaitable<Result<std::optional<Slot>>> acquire(std::string vm_id, NetworkSettings settings) override;
    Awaitable<Result<void>> sleep(std::string vm_id) override;
    Awaitable<Result<void>> awake(std::string vm_id) override;
    Awaitable<void> watch(Doorbell& bell) override;
    Awaitable<Result<void>> release(std::string vm_id) override;
    Awaitable<Result<void>> policy(std::string vm_id, NetworkSettings settings) override;
    Awaitable<Result<NetworkNumbers>> numbers(std::string vm_id) override;
    Awaitable<Result<std::map<std::string, NetworkNumbers>>> all_numbers() override;
    Awaitable<void> retain(std::string server_id, std::vector<std::string> vm_ids) override;
    [[nodiscard]] std::string unavailable_reason() const override { return "switched off in this test"; }

  private:
    std::shared_ptr<Script> script_;
};

[[nodiscard]] ChannelFactory fake_channels(std::shared_ptr<Script> script);

}  // namespace noid::vm
