#include "vm/testing/fake_vmm.hpp"

#include <csignal>
#include <fstream>
#include <utility>

#include "base/file.hpp"
#include "vm/broadcast.hpp"

namespace noid::vm {

namespace fs = std::filesystem;

namespace {

// A command that ends well as soon as somebody waits for it.
class FakeSession final : public channel::Session {
  public:
    explicit FakeSession(std::shared_ptr<std::size_t> attached) : attached_{std::move(attached)} {
        ++*attached_;
    }

    [[nodiscard]] proto::SessionId id() const override { return {}; }
    Awaitable<Result<Event>> next() override {
        --*attached_;
        co_return Event{Ended{}};
    }
    void acknowledge(proto::OutputStream, std::uint64_t) override {}
    Awaitable<Result<void>> write(std::string) override { co_return Result<void>{}; }
    void close_input() override {}
    [[nodiscard]] std::uint64_t input_taken() const override { return 0; }
    [[nodiscard]] std::uint64_t input_written() const override { return 0; }
    Awaitable<Result<std::uint64_t>> input_taken_beyond(std::uint64_t) override {
        co_return fail(Errc::unavailable, "the session has ended");
    }
    void signal(int) override {}
    void resize(proto::TerminalSize) override {}
    void detach() override {}
    void release() override {}
    void cancel() override {}

  private:
    std::shared_ptr<std::size_t> attached_;
};

// A guest whose agent answers everything at once.
class FakeChannel final : public channel::AgentChannel {
  public:
    FakeChannel(std::shared_ptr<Script> script, asio::any_io_executor strand, Connect connect)
        : script_{std::move(script)}, stopped_signal_{std::move(strand)}, connect_{std::move(connect)} {}

    void start() override {}
    void stop() override {
        stopped_ = true;
        stopped_signal_.notify();
    }
    Awaitable<Result<proto::AgentInfo>> ready(std::chrono::milliseconds limit) override {
        if (silent()) {
            auto never = [](FakeChannel& self) -> Awaitable<Result<proto::AgentInfo>> {
                while (!self.stopped_) co_await self.stopped_signal_.wait();
                co_return fail(Errc::unavailable, "the channel is stopped");
            };
            co_return co_await within(limit, never(*this));
        }
        proto::AgentInfo info;
        info.version = "test";
        info.os = "Testux";
        co_return info;
    }
    Awaitable<Result<void>> hold_traffic() override {
        const std::lock_guard lock{script_->mutex};
        script_->traffic_held = true;
        co_return Result<void>{};
    }
    void resume_traffic() override {
        const std::lock_guard lock{script_->mutex};
        script_->traffic_held = false;
    }
    void reconnect() override {
        const std::lock_guard lock{script_->mutex};
        ++script_->reconnects;
    }
    Awaitable<Result<std::shared_ptr<channel::Session>>> open(proto::SessionSpec) override {
        co_return std::make_shared<FakeSession>(attached_);
    }
    Awaitable<Result<std::shared_ptr<channel::Session>>> attach(proto::SessionId,
                                                                proto::OutputOffsets) override {
        co_return fail(Errc::not_found, "no such session");
    }
    Awaitable<Result<std::vector<proto::SessionInfo>>> sessions() override {
        co_return std::vector<proto::SessionInfo>{};
    }
    Awaitable<Result<void>> renew_identity(proto::Identity identity, std::chrono::milliseconds) override {
        const std::lock_guard lock{script_->mutex};
        if (script_->identity_fails) co_return fail(*script_->identity_fails);
        script_->identities.push_back(std::move(identity));
        co_return Result<void>{};
    }
    Awaitable<Result<proto::GuestStats>> stats() override {
        proto::GuestStats stats;
        stats.memory_available = 4711;
        co_return stats;
    }
    Awaitable<Result<void>> ping() override { co_return Result<void>{}; }
    Awaitable<Result<void>> shut_down() override {
        const std::lock_guard lock{script_->mutex};
        if (script_->guest_powers_off) {
            for (const ProcessIdentity& process : script_->processes) {
                if (auto pidfd = open_process(process)) ::kill(process.pid, SIGTERM);
            }
        }
        co_return Result<void>{};
    }
    [[nodiscard]] std::size_t attached_sessions() const override { return *attached_; }

  private:
    bool silent() {
        const std::lock_guard lock{script_->mutex};
        return script_->guest_silent;
    }

    std::shared_ptr<Script> script_;
    Broadcast stopped_signal_;
    Connect connect_;  // held as the real one holds it: it keeps the machine
    bool stopped_ = false;
    std::shared_ptr<std::size_t> attached_ = std::make_shared<std::size_t>(0);
};

}  // namespace

ChannelFactory fake_channels(std::shared_ptr<Script> script) {
    return [script](asio::any_io_executor strand, channel::AgentChannel::Connect connect) {
        return std::make_shared<FakeChannel>(script, std::move(strand), std::move(connect));
    };
}

Awaitable<Result<asio::local::stream_protocol::socket>> FakeMachine::connect_agent() {
    co_return fail(Errc::unsupported, "a fake machine has no agent socket");
}
fs::path guest_memory_file(const fs::path& directory, pid_t pid) {
    return directory / ("guest-memory." + std::to_string(pid));
}
fs::path pause_mark(const fs::path& directory, pid_t pid) {
    return directory / ("paused." + std::to_string(pid));
}

Awaitable<Result<void>> FakeMachine::pause() {
    const fs::path mark = pause_mark(directory_, identity().pid);
    if (fs::exists(mark)) co_return fail(Errc::conflict, "paused already");
    std::ofstream{mark} << "paused";
    co_return Result<void>{};
}
Awaitable<Result<void>> FakeMachine::resume() {
    const std::lock_guard lock{script_->mutex};
    if (script_->resumes_that_time_out > 0) {
        --script_->resumes_that_time_out;
        co_return fail(Errc::timed_out, "the machine does not answer");
    }
    if (!fs::remove(pause_mark(directory_, identity().pid))) co_return fail(Errc::conflict, "not paused");
    co_return Result<void>{};
}
Awaitable<Result<vmm::SaveReport>> FakeMachine::save(const vmm::SnapshotFiles& files,
                                                     vmm::SnapshotKind kind) {
    const std::lock_guard lock{script_->mutex};
    if (script_->save_fails) co_return fail(*script_->save_fails);
    if (!fs::exists(pause_mark(directory_, identity().pid))) co_return fail(Errc::conflict, "not paused");
    const bool basis_there = fs::exists(directory_ / files.memory);
    if (basis_there != (kind == vmm::SnapshotKind::incremental))
        co_return fail(Errc::internal, "wrong basis");
    auto memory = read_file(guest_memory_file(directory_, identity().pid), 1000);
    if (!memory) co_return fail(std::move(memory.error()));
    std::ofstream memory_out{directory_ / files.memory};
    std::ofstream state_out{directory_ / files.state};
    memory_out << *memory << std::flush;
    state_out << "state" << std::flush;
    if (!memory_out || !state_out) co_return fail(Errc::no_space, "the memory cannot be written");
    script_->saves.push_back(kind);
    vmm::SaveReport report;
    report.bytes_written = memory->size();
    co_return report;
}
Awaitable<Result<std::string>> FakeMachine::read_console() {
    if (!std::exchange(greeted_, true)) co_return "hello from the console\n";
    co_await process_.exited();
    co_return fail(Errc::unavailable, "the machine has ended");
}
Awaitable<Result<void>> FakeMachine::write_console(std::string_view) {
    co_return Result<void>{};
}
Awaitable<Result<void>> FakeMachine::set_balloon(MiB size) {
    const std::lock_guard lock{script_->mutex};
    if (!vmm::has_balloon(layout_)) co_return fail(Errc::unsupported, "no balloon");
    if (script_->balloon_fails) co_return fail(*script_->balloon_fails);
    script_->balloons[identity().pid] = size;
    co_return Result<void>{};
}
Awaitable<Result<vmm::MemoryNumbers>> FakeMachine::memory_numbers() {
    const std::lock_guard lock{script_->mutex};
    vmm::MemoryNumbers numbers;
    numbers.balloon = script_->balloons[identity().pid].bytes();
    numbers.available = 815;
    co_return numbers;
}
Awaitable<Result<void>> FakeMachine::set_disk_limit(vmm::DiskLimit limit) {
    const std::lock_guard lock{script_->mutex};
    script_->disk_limits[identity().pid] = limit;
    co_return Result<void>{};
}
Awaitable<Result<vmm::DeviceNumbers>> FakeMachine::device_numbers() {
    vmm::DeviceNumbers numbers;
    numbers.disk_read_bytes = 1234;
    co_return numbers;
}
Awaitable<vmm::Exit> FakeMachine::exited() {
    const launcher::ExitStatus status = co_await process_.exited();
    const bool terminated = status.how == launcher::ExitStatus::How::signalled && status.value == SIGTERM;
    co_return vmm::Exit{terminated ? vmm::Exit::How::guest_shutdown : vmm::Exit::How::crashed,
                        launcher::describe(status)};
}
Awaitable<Result<void>> FakeMachine::kill(std::chrono::milliseconds grace) {
    auto ended = co_await process_.stop(grace);
    if (!ended) co_return fail(std::move(ended.error()));
    co_return Result<void>{};
}

Awaitable<Result<std::unique_ptr<vmm::Machine>>> FakeVmm::start(const vmm::MachineSpec& spec) {
    {
        const std::lock_guard lock{script_->mutex};
        if (script_->start_fails) co_return fail(*script_->start_fails);
    }
    co_return co_await launch(spec, "booted", false);
}

Awaitable<Result<std::unique_ptr<vmm::Machine>>> FakeVmm::restore(const vmm::MachineSpec& spec,
                                                                  const vmm::SnapshotFiles& files,
                                                                  Wake wake) {
    {
        const std::lock_guard lock{script_->mutex};
        if (script_->restore_fails) co_return fail(*script_->restore_fails);
    }
    auto memory = read_file(spec.directory / files.memory, 1000);
    if (!memory) co_return fail(std::move(memory.error()));
    co_return co_await launch(spec, std::move(*memory), wake == Wake::paused);
}

Awaitable<Result<std::unique_ptr<vmm::Machine>>> FakeVmm::launch(vmm::MachineSpec spec, std::string memory,
                                                                 bool paused) {
    const std::filesystem::path directory = spec.directory;
    launcher::ProcessSpec process;
    process.program = "/bin/sleep";
    process.arguments = {"infinity"};
    process.directory = directory;
    auto launched = launcher::launch(process);
    if (!launched) co_return fail(std::move(launched.error()));
    {
        const std::lock_guard lock{script_->mutex};
        script_->processes.push_back(launched->identity);
        script_->specs[launched->identity.pid] = spec;
    }
    const pid_t pid = launched->identity.pid;
    std::ofstream guest{guest_memory_file(directory, pid)};
    guest << memory << std::flush;
    if (paused) std::ofstream{pause_mark(directory, pid)} << "paused";
    launcher::Process running{co_await asio::this_coro::executor, std::move(*launched)};
    if (!guest) {
        (void)co_await running.stop(std::chrono::milliseconds{0});
        co_return fail(Errc::no_space, "the guest's memory cannot be written");
    }
    co_return std::make_unique<FakeMachine>(script_, std::move(running), spec);
}
Awaitable<Result<std::unique_ptr<vmm::Machine>>> FakeVmm::adopt(const vmm::MachineSpec& spec,
                                                                ProcessIdentity identity) {
    if (script_->adopt_fails) co_return fail(*script_->adopt_fails);
    auto process = launcher::Process::adopt(co_await asio::this_coro::executor, identity);
    if (!process) co_return fail(std::move(process.error()));
    co_return std::make_unique<FakeMachine>(script_, std::move(*process), spec);
}

Awaitable<Result<std::optional<Slot>>> FakeNetwork::acquire(std::string vm_id, NetworkSettings settings) {
    const std::lock_guard lock{script_->mutex};
    if (script_->network_fails) co_return fail(*script_->network_fails);
    if (script_->no_network) co_return std::optional<Slot>{};
    if (!script_->slots.contains(vm_id) && script_->slots.size() >= script_->most_slots)
        co_return fail(Errc::limit_exceeded, "all slots are in use");
    script_->slots.insert(vm_id);
    script_->network[vm_id] = std::move(settings);
    Slot slot;
    auto& numbers = script_->slot_numbers;
    slot.index = numbers.emplace(vm_id, static_cast<std::uint32_t>(numbers.size() + 1)).first->second;
    slot.attachment.tap = "tap0";
    slot.guest.address = "172.16.0.2/30";
    slot.address = "172.16.0.5";
    co_return slot;
}
Awaitable<Result<void>> FakeNetwork::release(std::string vm_id) {
    const std::lock_guard lock{script_->mutex};
    script_->slots.erase(vm_id);
    script_->asleep.erase(vm_id);
    script_->network.erase(vm_id);
    co_return Result<void>{};
}
Awaitable<Result<void>> FakeNetwork::sleep(std::string vm_id) {
    const std::lock_guard lock{script_->mutex};
    if (!script_->slots.contains(vm_id)) co_return fail(Errc::not_found, "no slot");
    script_->asleep.insert(std::move(vm_id));
    co_return Result<void>{};
}
Awaitable<Result<void>> FakeNetwork::awake(std::string vm_id) {
    const std::lock_guard lock{script_->mutex};
    script_->asleep.erase(vm_id);
    co_return Result<void>{};
}
Awaitable<void> FakeNetwork::watch(Doorbell& bell) {
    struct Hook {
        std::shared_ptr<Script> script;
        ~Hook() {
            const std::lock_guard lock{script->mutex};
            script->knock = nullptr;
            script->lose = nullptr;
        }
    };
    const Hook hook{script_};
    auto executor = co_await asio::this_coro::executor;
    {
        const std::lock_guard lock{script_->mutex};
        for (const auto& vm : bell.asleep()) script_->asleep.insert(vm);
        script_->knock = [executor, &bell](std::string vm) {
            asio::post(executor, [&bell, vm = std::move(vm)] { bell.knocked(vm); });
        };
        script_->lose = [executor, &bell](std::string vm) {
            asio::post(executor, [&bell, vm = std::move(vm)] { bell.lost(vm); });
        };
    }
    asio::steady_timer until_cancelled{executor, asio::steady_timer::time_point::max()};
    co_await until_cancelled.async_wait(asio::use_awaitable);
}
Awaitable<Result<void>> FakeNetwork::policy(std::string vm_id, NetworkSettings settings) {
    const std::lock_guard lock{script_->mutex};
    if (script_->network_fails) co_return fail(*script_->network_fails);
    if (!script_->slots.contains(vm_id)) co_return fail(Errc::not_found, "no slot");
    script_->network[vm_id] = std::move(settings);
    co_return Result<void>{};
}
Awaitable<Result<NetworkNumbers>> FakeNetwork::numbers(std::string vm_id) {
    const std::lock_guard lock{script_->mutex};
    if (!script_->slots.contains(vm_id)) co_return fail(Errc::not_found, "no slot");
    NetworkNumbers numbers;
    numbers.sent = {100, 1};
    numbers.connections = script_->connections;
    co_return numbers;
}
Awaitable<Result<std::map<std::string, NetworkNumbers>>> FakeNetwork::all_numbers() {
    const std::lock_guard lock{script_->mutex};
    std::map<std::string, NetworkNumbers> all;
    for (const auto& vm : script_->slots) all[vm].sent = {100, 1};
    co_return all;
}
Awaitable<void> FakeNetwork::retain(std::string server_id, std::vector<std::string> vm_ids) {
    const std::lock_guard lock{script_->mutex};
    script_->server_id = std::move(server_id);
    std::erase_if(script_->slots,
                  [&](const std::string& lent) { return std::ranges::find(vm_ids, lent) == vm_ids.end(); });
    co_return;
}

}  // namespace noid::vm
