#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "vm/broadcast.hpp"
#include "vm/console_log.hpp"
#include "vm/host.hpp"
#include "vm/operation_queue.hpp"
#include "vm/snapshot.hpp"
#include "vm/state_machine.hpp"
#include "vm/task_group.hpp"
#include "vm/template_store.hpp"
#include "vm/tenant_context.hpp"
#include "vm/vm.hpp"
#include "vm/vm_record.hpp"
#include "vm/warm_pool.hpp"

namespace noid::vm {

// The one implementation of Vm: files, VMM process, agent and row of one VM, on one strand.
//
// Operations run one after the other (OperationQueue). Each is journalled
// before it acts, and undoes what it did when it fails. State changes only
// under a turn of the queue, so an operation that checked the state may rely on
// it until it ends.
class VmActor final : public Vm, public std::enable_shared_from_this<VmActor> {
  public:
    // A VM that is about to be made, or that an earlier server process made.
    // `strand`: where a machine lives that it is to take over; none: one of its own.
    [[nodiscard]] static std::shared_ptr<VmActor> create(Host& host, std::shared_ptr<TenantContext> tenant,
                                                         VmRecord record, VmStatus status,
                                                         std::optional<asio::any_io_executor> strand = {});

    // How a VM with this record and status shows itself.
    [[nodiscard]] static VmView render(const Host& host, const VmRecord& record, const VmStatus& status);

    [[nodiscard]] const VmRecord& record() const noexcept { return record_; }
    // The VMM process, if there is one. Thread-safe.
    [[nodiscard]] std::optional<ProcessIdentity> process() const;

    // --- for the tenant and the engine; awaited from any executor ---

    struct Making {
        std::filesystem::path image;          // to clone the disk from
        std::optional<Origin> from;           // wake from it; none: from a template, or boot the image
        bool boot = false;                    // boot the image even if there is a template
        WarmPool::Loan warm = {};             // a machine that waits for a VM of just this kind, under its id
        std::optional<store::Replay> replay;  // remembered together with the new VM
    };
    // Files, network, boot, agent, row: all or nothing. Cancelled before the row is written: nothing.
    Awaitable<Result<void>> make(Making making);
    // Ends and removes everything. Cannot be cancelled; interrupts a create or start that is going on.
    Awaitable<Result<void>> destroy();
    // After a restart of the server: takes over the VMM that the status names. `settle`: a pause or
    // resume was interrupted, so the vCPUs are brought into the recorded state.
    Awaitable<void> take_over(bool settle);
    // Puts the VM back to a checkpoint, which may be another VM's; see
    // Checkpoints::restore.
    struct Rewind {
        SnapshotConfig config;
        std::filesystem::path place;
        bool keep_present = true;
    };
    Awaitable<Result<Restored>> restore(Rewind rewind);
    // A checkpoint under an id that the caller has noted, to make clones of.
    Awaitable<Result<SnapshotConfig>> save_for_fork(std::string id);
    // Wakes the VM if it is suspended.
    Awaitable<Result<void>> wake();
    // Somebody sends to its address although it sleeps, or slept until a moment ago: it wakes.
    Awaitable<void> answer_knock();
    // It sleeps, and the slot that it had is gone: gets another one.
    Awaitable<void> replace_lost_slot();
    // Before the server ends: lets go of the VMM, which runs on. Operations answer `reason` from now on.
    Awaitable<void> let_go(Error reason);

    // --- Vm ---
    [[nodiscard]] asio::any_io_executor strand() const override { return strand_; }
    [[nodiscard]] VmView view() const override;
    Awaitable<Result<VmView>> details() override;
    Awaitable<Result<void>> start() override;
    Awaitable<Result<void>> stop(StopMode mode) override;
    Awaitable<Result<void>> pause() override;
    Awaitable<Result<void>> resume() override;
    Awaitable<Result<void>> suspend() override;
    Awaitable<Result<CheckpointView>> checkpoint(CheckpointRequest request) override;
    [[nodiscard]] VmPolicy policy() const override;
    Awaitable<Result<void>> set_policy(VmPolicy policy) override;
    [[nodiscard]] NetworkSettings network() const override;
    Awaitable<Result<void>> set_network(NetworkSettings settings) override;
    Awaitable<Result<NetworkNumbers>> network_numbers() override;
    Awaitable<Result<void>> set_resources(ResourceChange change) override;
    [[nodiscard]] std::vector<PublishedPort> published_ports() const override;
    Awaitable<Result<void>> set_published_ports(std::vector<PublishedPort> ports) override;
    Awaitable<Result<void>> ready(std::chrono::milliseconds limit) override;
    Awaitable<Result<std::shared_ptr<channel::Session>>> open(proto::SessionSpec spec) override;
    Awaitable<Result<std::shared_ptr<channel::Session>>> attach(proto::SessionId id,
                                                                proto::OutputOffsets have) override;
    Awaitable<Result<std::vector<proto::SessionInfo>>> sessions() override;
    Awaitable<Result<std::shared_ptr<ConsoleReader>>> console(std::uint64_t tail_bytes, bool follow) override;
    Awaitable<Result<void>> write_console(std::string bytes) override;

  private:
    // A VMM that runs, and the way to the agent in its guest.
    struct Guest {
        Guest(std::shared_ptr<vmm::Machine> running, std::shared_ptr<channel::AgentChannel> to_agent,
              asio::any_io_executor strand)
            : machine{std::move(running)},
              channel{std::move(to_agent)},
              tasks{std::move(strand), "console feed"} {}

        std::shared_ptr<vmm::Machine> machine;
        std::shared_ptr<channel::AgentChannel> channel;
        TaskGroup tasks;
    };
    enum class Boot : std::uint8_t { first, again, clone };
    enum class AfterSave : std::uint8_t { go_on, stay_paused };
    enum class Maker : std::uint8_t { person, server };
    // What saving memory and devices wrote, and how long the VM stood still.
    struct Instant {
        vmm::SaveReport report;
        std::chrono::microseconds paused{};
    };
    // How far a make() has come, for undoing it.
    struct Progress {
        std::int64_t intent = 0;
        bool directory_made = false;
        bool network_asked = false;
    };

    VmActor(Host& host, std::shared_ptr<TenantContext> tenant, VmRecord record, VmStatus status,
            std::optional<asio::any_io_executor> strand);

    // Everything below runs on the strand; what changes state, under a turn.
    template <class Work>
    auto run_operation(Work work) -> std::invoke_result_t<Work&>;
    template <class Query>
    auto in_database(Query query) -> Awaitable<std::invoke_result_t<Query&, store::TenantDatabase&>>;
    Awaitable<Result<std::int64_t>> journal(std::string operation, IntentData data);
    Awaitable<Result<void>> conclude(std::int64_t intent);
    Result<void> reached(std::string_view step) const;
    Awaitable<Error> abandoned();

    Awaitable<Result<void>> build(Progress& progress, Making making);
    Awaitable<Result<void>> bring_up(Progress& progress, Making& making);
    Awaitable<Result<void>> wake_or_boot(Progress& progress, Making& making);
    Awaitable<Result<void>> boot_instead(Progress& progress, Making& making);
    Awaitable<Result<void>> begin_anew();
    Awaitable<Result<void>> take_over_warm(Progress& progress, Making& making);
    Awaitable<Result<void>> make_files(Progress& progress, Making& making);
    Awaitable<void> unmake(Progress progress);
    [[nodiscard]] Result<void> fits_vmm() const;
    Awaitable<Result<void>> start_now();
    Awaitable<Result<void>> pause_bare(std::shared_ptr<Guest> guest);
    void take_up_traffic(Guest& guest);
    Awaitable<Result<void>> pause_with_snapshot(std::shared_ptr<Guest> guest);
    Awaitable<Result<void>> boot_again(std::int64_t intent);
    Awaitable<Result<std::optional<Slot>>> acquire_slot(bool wanted);
    Awaitable<Result<std::optional<Slot>>> acquire_place();
    Awaitable<Result<void>> launch(std::int64_t intent, Boot boot);
    Awaitable<Result<void>> come_up(std::shared_ptr<Guest> guest, Boot boot);
    Awaitable<std::optional<Origin>> find_template(std::filesystem::path image);
    Awaitable<void> bake_template(std::shared_ptr<Guest> guest, std::filesystem::path image);
    static Awaitable<void> publish_template(std::shared_ptr<VmActor> self, TemplateStore::Bake bake,
                                            SnapshotConfig config);
    Awaitable<void> shut_guest_down(std::shared_ptr<Guest> guest);
    Awaitable<Result<void>> end_process_of_vm(std::chrono::milliseconds grace);
    Awaitable<void> end_strays();
    Awaitable<Result<void>> destroy_now();
    Awaitable<Result<void>> remove_files();
    Awaitable<void> remove_checkpoints();
    Awaitable<void> release_slot();
    Awaitable<void> let_slot_sleep();
    Awaitable<void> rouse_slot();
    Result<void> take_share();
    Awaitable<Result<Quota::Claim>> claim_disk(MiB memory, std::filesystem::path disk);
    Awaitable<void> drop_unfinished_save();
    Awaitable<Result<void>> commit_to(std::int64_t intent, std::string operation, std::string step,
                                      IntentData data);
    Awaitable<void> take_back(std::int64_t intent, std::shared_ptr<Guest> guest, bool was_running);
    Awaitable<Result<Quota::Claim>> claim_for_save(bool with_disk);
    [[nodiscard]] const NetworkSettings& network_settings() const;
    [[nodiscard]] VmRecord present_record() const;
    Awaitable<Result<void>> set_network_now(NetworkSettings settings);
    Awaitable<Result<void>> apply_network(NetworkSettings settings);
    Awaitable<Result<void>> keep_settings();
    [[nodiscard]] const Resources& resources() const;
    Awaitable<Result<void>> set_resources_now(ResourceChange change);
    Awaitable<Result<void>> apply_resources(Resources has, Resources wanted);
    Awaitable<void> settle_balloon(MiB of_snapshot);
    Awaitable<void> add_numbers(VmView& view);

    [[nodiscard]] SnapshotConfig describe_snapshot() const;
    Awaitable<Result<bool>> lay_out_basis();
    Awaitable<Result<void>> go_on(std::shared_ptr<Guest> guest);
    Awaitable<Result<Instant>> save_instant(std::shared_ptr<Guest> guest,
                                            std::function<Result<void>()> with_disk, AfterSave after);
    Awaitable<Result<SnapshotConfig>> checkpoint_now(std::string id, CheckpointRequest request, Maker maker,
                                                     AfterSave after);
    Awaitable<Result<void>> publish_checkpoint(SnapshotConfig& config, AfterSave after);
    Awaitable<Result<void>> fill_from_guest(SnapshotDraft& draft, SnapshotConfig& config, AfterSave after);
    Awaitable<Result<void>> fill_from_disk(SnapshotDraft& draft, SnapshotConfig& config);
    Awaitable<Result<void>> suspend_now();
    Awaitable<Result<void>> save_for_suspension(std::shared_ptr<Guest> guest);
    Awaitable<Result<void>> wake_machine(SnapshotConfig config, Boot boot, bool& ran);
    Awaitable<Result<SnapshotConfig>> snapshot_to_wake_from() const;
    Awaitable<Result<void>> wake_now();
    Awaitable<Result<Restored>> restore_now(Rewind rewind);
    Awaitable<Result<void>> prepare_successor(const Rewind& rewind);
    Awaitable<Result<void>> switch_to_successor(const SnapshotConfig& config);

    void attach_guest(std::shared_ptr<vmm::Machine> machine);
    void attach_guest(std::shared_ptr<vmm::Machine> machine, std::shared_ptr<channel::AgentChannel> channel);
    Awaitable<Result<void>> run_and_come_up(Boot boot);
    Awaitable<void> detach_guest();
    static Awaitable<void> watch(std::shared_ptr<VmActor> self, std::shared_ptr<Guest> guest);
    static Awaitable<void> watch_foreign(std::shared_ptr<VmActor> self, ProcessIdentity process);
    static Awaitable<void> feed_console(std::shared_ptr<vmm::Machine> machine,
                                        std::shared_ptr<ConsoleLog> console);
    Awaitable<void> vmm_ended(const std::shared_ptr<Guest>& guest, vmm::Exit exit);
    Awaitable<void> note_end(State state, std::string reason);
    Awaitable<Result<void>> take_over_now(bool settle_pause);
    Awaitable<Result<void>> leave_to_its_vmm(ProcessIdentity process);
    Awaitable<void> say_whether_it_can_wake();

    void follow_policy();
    [[nodiscard]] std::chrono::microseconds until_next_save() const;
    static Awaitable<void> save_now_and_then(std::shared_ptr<VmActor> self);
    static Awaitable<void> suspend_when_idle(std::shared_ptr<VmActor> self);
    Awaitable<bool> in_use();

    Awaitable<Result<std::shared_ptr<Guest>>> running_guest();
    Awaitable<Result<proto::GuestStats>> guest_stats();
    Awaitable<std::string> console_tail();

    [[nodiscard]] std::filesystem::path directory() const { return tenant_->paths.vm(record_.name); }
    [[nodiscard]] vmm::MachineSpec spec() const;
    [[nodiscard]] proto::Identity identity_for(Boot boot) const;
    [[nodiscard]] std::unexpected<Error> refuse(std::string_view wanted) const;
    void enter(State state, std::string reason);
    void publish();

    Host& host_;
    const std::shared_ptr<TenantContext> tenant_;
    const VmRecord record_;
    const asio::any_io_executor strand_;

    // On the strand.
    VmStatus status_;
    OperationQueue operations_;
    Broadcast changed_;               // state, or abandonment
    std::optional<Error> abandoned_;  // why no operation is accepted any more
    bool gone_ = false;               // destroyed completely
    std::shared_ptr<Guest> guest_;
    std::optional<proto::AgentInfo> agent_;
    bool slot_sleeps_ = false;           // who sends to it is told of at answer_knock()
    std::optional<Quota::Share> share_;  // while there is a process, or is to be
    std::shared_ptr<ConsoleLog> console_;
    TaskGroup watchers_;
    TaskGroup policy_tasks_;
    std::chrono::steady_clock::time_point last_used_ = std::chrono::steady_clock::now();
    std::size_t opening_ = 0;          // sessions being opened
    std::filesystem::path bake_from_;  // while booting for the first time: the image, to make a template

    mutable std::mutex view_mutex_;
    VmView view_;                             // guarded by view_mutex_
    std::optional<ProcessIdentity> process_;  // guarded by view_mutex_
    VmPolicy policy_;                         // guarded by view_mutex_
};

}  // namespace noid::vm
