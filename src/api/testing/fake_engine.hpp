#pragma once

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/strand.hpp>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "vm/engine.hpp"

// An engine without machines: what the API asks of it, answered from memory.
namespace noid::api::testing {

// What the tests watch.
struct Witness {
    std::atomic<int> sessions{0};            // that are alive
    std::atomic<int> read_from{0};           // times that an event of a session was asked for
    std::atomic<int> cancelled{0};           // sessions
    std::atomic<std::uint64_t> produced{0};  // bytes of output that "yes" gave
    std::atomic<int> console_readers{0};
};

// A session that plays a command:
//   echo TEXT     gives TEXT on stdout, TEXT again on stderr, exits with 0
//   exit N        exits with N
//   cat           gives back its input, exits with 0 when that ends
//   yes           output without end, as much as the window takes
//   sleep         nothing, for ever; ends when its time limit passes
//   missing       cannot be started
class FakeSession final : public channel::Session {
  public:
    FakeSession(asio::any_io_executor strand, proto::SessionSpec spec, std::uint64_t id, Witness& witness);
    ~FakeSession() override;

    [[nodiscard]] proto::SessionId id() const override { return id_; }
    Awaitable<Result<Event>> next() override;
    void acknowledge(proto::OutputStream stream, std::uint64_t offset) override;
    Awaitable<Result<void>> write(std::string bytes) override;
    void close_input() override;
    [[nodiscard]] std::uint64_t input_taken() const override { return input_; }
    [[nodiscard]] std::uint64_t input_written() const override { return input_; }
    Awaitable<Result<std::uint64_t>> input_taken_beyond(std::uint64_t than) override;
    void signal(int number) override;
    void resize(proto::TerminalSize) override {}
    void detach() override {}
    void release() override {}
    void cancel() override;

  private:
    void put_output(proto::OutputStream stream, std::string bytes);
    void end(proto::SessionEnd::How how, int status);
    void push(Event event);
    void flow();

    asio::any_io_executor strand_;
    proto::SessionId id_;
    Witness& witness_;
    std::string command_;
    std::deque<Event> events_;
    asio::steady_timer changed_;
    asio::steady_timer limit_;
    std::uint64_t out_ = 0;
    std::uint64_t err_ = 0;
    std::uint64_t acknowledged_ = 0;
    std::uint64_t input_ = 0;
    bool ended_ = false;
};

// Checkpoints of whatever VM, by id "0000000000000001" and so on.
class FakeCheckpoints final : public vm::Checkpoints {
  public:
    vm::CheckpointView add(const std::string& vm, vm::CheckpointRequest request);

    Awaitable<Result<std::vector<vm::CheckpointView>>> list(const vm::VmName& vm) override;
    Awaitable<Result<vm::CheckpointView>> info(const vm::VmName& vm, std::string which) override;
    Awaitable<Result<vm::CheckpointView>> change(const vm::VmName& vm, std::string which,
                                                 vm::CheckpointChange change) override;
    Awaitable<Result<vm::CheckpointView>> remove(const vm::VmName& vm, std::string which) override;
    // Removes all but `keep`, the oldest first.
    Awaitable<Result<std::vector<vm::CheckpointView>>> prune(const vm::VmName& vm,
                                                             vm::PruneRule rule) override;
    Awaitable<Result<vm::Restored>> restore(const vm::VmName& vm, vm::RestoreRequest request) override;
    Awaitable<Result<vm::VmView>> clone(const vm::VmName& vm, vm::CloneRequest request) override;
    Awaitable<Result<std::vector<vm::VmView>>> fork(const vm::VmName& vm, vm::ForkRequest request) override;
    // The stream is the label, four times.
    Awaitable<Result<std::unique_ptr<vm::CheckpointSource>>> export_stream(const vm::VmName& vm,
                                                                           std::string which) override;
    // Makes a checkpoint with the stream as its label; "broken" is corrupt.
    Awaitable<Result<std::unique_ptr<vm::CheckpointSink>>> import_stream(
        const vm::VmName& vm, vm::CheckpointRequest request) override;

  private:
    [[nodiscard]] Result<std::size_t> position(const vm::VmName& vm, std::string_view which) const;

    std::mutex mutex_;
    std::vector<vm::CheckpointView> all_;
};

class FakeVm final : public vm::Vm, public std::enable_shared_from_this<FakeVm> {
  public:
    FakeVm(asio::io_context& loop, vm::VmView view, FakeCheckpoints& checkpoints, Witness& witness)
        : strand_{asio::make_strand(loop)},
          view_{std::move(view)},
          checkpoints_{checkpoints},
          witness_{witness} {}

    [[nodiscard]] asio::any_io_executor strand() const override { return strand_; }
    [[nodiscard]] vm::VmView view() const override { return view_; }
    Awaitable<Result<vm::VmView>> details() override { co_return view_; }
    Awaitable<Result<void>> start() override { co_return fail(Errc::conflict, "VM is running"); }
    Awaitable<Result<void>> stop(vm::StopMode) override { co_return Result<void>{}; }
    Awaitable<Result<void>> pause() override { co_return Result<void>{}; }
    Awaitable<Result<void>> resume() override { co_return Result<void>{}; }
    Awaitable<Result<void>> suspend() override { co_return Result<void>{}; }
    Awaitable<Result<vm::CheckpointView>> checkpoint(vm::CheckpointRequest request) override {
        co_return checkpoints_.add(view_.name, std::move(request));
    }
    [[nodiscard]] vm::VmPolicy policy() const override { return policy_; }
    Awaitable<Result<void>> set_policy(vm::VmPolicy policy) override {
        policy_ = policy;
        co_return Result<void>{};
    }
    [[nodiscard]] vm::NetworkSettings network() const override { return view_.network; }
    Awaitable<Result<void>> set_network(vm::NetworkSettings settings) override {
        view_.network = std::move(settings);
        co_return Result<void>{};
    }
    Awaitable<Result<void>> set_resources(vm::ResourceChange change) override {
        view_.resources = change.applied_to(view_.resources);
        co_return Result<void>{};
    }
    Awaitable<Result<vm::NetworkNumbers>> network_numbers() override { co_return vm::NetworkNumbers{}; }
    [[nodiscard]] std::vector<vm::PublishedPort> published_ports() const override { return view_.ports; }
    // Tells no registry.
    Awaitable<Result<void>> set_published_ports(std::vector<vm::PublishedPort> ports) override {
        view_.ports = std::move(ports);
        co_return Result<void>{};
    }
    Awaitable<Result<void>> ready(std::chrono::milliseconds) override { co_return Result<void>{}; }
    Awaitable<Result<std::shared_ptr<channel::Session>>> open(proto::SessionSpec spec) override;
    Awaitable<Result<std::shared_ptr<channel::Session>>> attach(proto::SessionId id,
                                                                proto::OutputOffsets) override {
        co_return fail(Errc::not_found, "session '" + proto::to_string(id) + "' not found");
    }
    Awaitable<Result<std::vector<proto::SessionInfo>>> sessions() override {
        co_return std::vector<proto::SessionInfo>{};
    }
    Awaitable<Result<std::shared_ptr<vm::ConsoleReader>>> console(std::uint64_t, bool follow) override;
    Awaitable<Result<void>> write_console(std::string) override { co_return Result<void>{}; }

  private:
    asio::any_io_executor strand_;
    vm::VmView view_;
    vm::VmPolicy policy_;
    FakeCheckpoints& checkpoints_;
    Witness& witness_;
    std::atomic<std::uint64_t> next_session_{1};
};

class FakeTenant final : public vm::Tenant {
  public:
    FakeTenant(asio::io_context& loop, std::string name, Witness& witness)
        : loop_{loop}, id_{"id-of-" + name}, name_{std::move(name)}, witness_{witness} {}

    [[nodiscard]] const std::string& user_id() const override { return id_; }
    [[nodiscard]] const std::string& user_name() const override { return name_; }
    // A VM named "bug" throws.
    Awaitable<Result<Created>> create(vm::CreateRequest request) override;
    [[nodiscard]] std::vector<vm::VmView> list() const override;
    [[nodiscard]] std::uint64_t revision() const override { return revision_; }
    [[nodiscard]] Result<std::shared_ptr<vm::Vm>> find(const vm::VmName& name) const override;
    Awaitable<Result<bool>> destroy(const vm::VmName& name) override;
    [[nodiscard]] vm::Checkpoints& checkpoints() override { return checkpoints_; }

  private:
    asio::io_context& loop_;
    std::string id_;
    std::string name_;
    Witness& witness_;
    FakeCheckpoints checkpoints_;
    mutable std::mutex mutex_;
    std::map<std::string, std::shared_ptr<FakeVm>> vms_;
    std::map<std::string, std::string> keys_;  // idempotency key to name
    std::atomic<std::uint64_t> revision_{0};
};

// Two users, "ann" and "bob".
class FakeEngine final : public vm::Engine {
  public:
    explicit FakeEngine(asio::io_context& loop);

    [[nodiscard]] static std::string token_of(std::string_view user) {
        return std::string(64, user == "ann" ? 'a' : 'b');
    }

    [[nodiscard]] Result<std::shared_ptr<vm::Tenant>> authenticate(std::string_view token) const override;
    [[nodiscard]] std::shared_ptr<vm::Tenant> tenant_named(const std::string& user_name) const override {
        const auto found = tenants_.find(token_of(user_name));
        return found == tenants_.end() || found->second->user_name() != user_name ? nullptr : found->second;
    }
    Awaitable<Result<NewToken>> create_user(std::string name) override;
    Awaitable<Result<NewToken>> rotate_token(std::string name) override;
    Awaitable<Result<std::vector<vm::User>>> users() override;
    Awaitable<Result<vm::User>> delete_user(std::string name) override;
    Awaitable<Result<UserLimits>> limits(std::string name) override;
    Awaitable<Result<UserLimits>> set_limits(std::string name, store::UserLimits limits) override;
    Awaitable<vm::EngineNumbers> numbers() const override { co_return vm::EngineNumbers{}; }
    [[nodiscard]] vm::PortRegistry& ports() override { return ports_; }
    [[nodiscard]] const vmm::Description& vmm() const override { return description_; }
    Awaitable<void> close() override { co_return; }

    [[nodiscard]] const Witness& witness() const noexcept { return witness_; }

  private:
    Witness witness_;
    vm::PortRegistry ports_;
    vmm::Description description_;
    std::map<std::string, std::shared_ptr<vm::Tenant>> tenants_;  // by token
};

}  // namespace noid::api::testing
