#include "api/testing/fake_engine.hpp"

#include <algorithm>
#include <array>
#include <boost/asio/as_tuple.hpp>
#include <cstdio>
#include <stdexcept>

namespace noid::api::testing {

namespace {

constexpr auto as_result = asio::as_tuple(asio::use_awaitable);

// A console that never ends, as fast as it is read.
class FakeConsole final : public vm::ConsoleReader {
  public:
    FakeConsole(bool follow, Witness& witness) : follow_{follow}, witness_{witness} {
        witness_.console_readers.fetch_add(1);
    }
    ~FakeConsole() override { witness_.console_readers.fetch_sub(1); }

    Awaitable<Result<std::string>> next() override {
        if (!follow_ && told_) co_return std::string{};
        told_ = true;
        co_return follow_ ? std::string(64 * 1024, 'c') : std::string{"booted\n"};
    }

  private:
    bool follow_;
    bool told_ = false;
    Witness& witness_;
};

}  // namespace

FakeSession::FakeSession(asio::any_io_executor strand, proto::SessionSpec spec, std::uint64_t id,
                         Witness& witness)
    : strand_{std::move(strand)},
      id_{id},
      witness_{witness},
      changed_{strand_, asio::steady_timer::time_point::max()},
      limit_{strand_} {
    witness_.sessions.fetch_add(1);
    const auto& exec = std::get<proto::Exec>(spec.operation);
    command_ = exec.argv.front();
    if (command_ == "missing") {
        events_.emplace_back(proto::SessionEnd{proto::SessionEnd::How::failed, 0,
                                               static_cast<std::uint8_t>(Errc::not_found),
                                               "missing: no such file"});
        ended_ = true;
        return;
    }
    events_.emplace_back(proto::Opened{7, {}});
    if (command_ == "echo") {
        put_output(proto::OutputStream::out, exec.argv.at(1));
        put_output(exec.merge_error_output ? proto::OutputStream::out : proto::OutputStream::err,
                   exec.argv.at(1));
        end(proto::SessionEnd::How::exited, 0);
    } else if (command_ == "exit") {
        end(proto::SessionEnd::How::exited, std::stoi(exec.argv.at(1)));
    } else if (command_ == "yes") {
        flow();
    }
    if (exec.time_limit.count() > 0 && !ended_) {
        limit_.expires_after(exec.time_limit);
        limit_.async_wait([this](const boost::system::error_code& error) {
            if (!error) end(proto::SessionEnd::How::timed_out, 0);
        });
    }
}

FakeSession::~FakeSession() {
    witness_.sessions.fetch_sub(1);
}

Awaitable<Result<channel::Session::Event>> FakeSession::next() {
    witness_.read_from.fetch_add(1);
    // Cancelled, the next wait throws.
    while (events_.empty()) co_await changed_.async_wait(as_result);
    Event event = std::move(events_.front());
    events_.pop_front();
    co_return event;
}

void FakeSession::acknowledge(proto::OutputStream stream, std::uint64_t offset) {
    if (stream == proto::OutputStream::out) acknowledged_ = offset;
    if (command_ == "yes") flow();
}

Awaitable<Result<void>> FakeSession::write(std::string bytes) {
    if (ended_) co_return fail(Errc::conflict, "no more input");
    input_ += bytes.size();
    if (command_ == "cat") put_output(proto::OutputStream::out, std::move(bytes));
    co_return Result<void>{};
}

void FakeSession::close_input() {
    if (command_ == "cat") end(proto::SessionEnd::How::exited, 0);
}

Awaitable<Result<std::uint64_t>> FakeSession::input_taken_beyond(std::uint64_t) {
    co_return fail(Errc::unavailable, "the session has ended");
}

void FakeSession::signal(int number) {
    end(proto::SessionEnd::How::signalled, number);
}

void FakeSession::cancel() {
    witness_.cancelled.fetch_add(1);
    end(proto::SessionEnd::How::cancelled, 0);
}

void FakeSession::put_output(proto::OutputStream stream, std::string bytes) {
    std::uint64_t& offset = stream == proto::OutputStream::out ? out_ : err_;
    const std::uint64_t at = offset;
    offset += bytes.size();
    push(proto::OutputBytes{stream, at, std::move(bytes)});
}

void FakeSession::end(proto::SessionEnd::How how, int status) {
    if (std::exchange(ended_, true)) return;
    limit_.cancel();
    push(proto::SessionEnd{how, status, 0, {}});
}

void FakeSession::push(Event event) {
    events_.push_back(std::move(event));
    changed_.cancel();
}

void FakeSession::flow() {
    while (!ended_ && out_ + proto::max_payload <= acknowledged_ + proto::stream_window) {
        put_output(proto::OutputStream::out, std::string(proto::max_payload, 'y'));
        witness_.produced.fetch_add(proto::max_payload);
    }
}

Awaitable<Result<std::shared_ptr<channel::Session>>> FakeVm::open(proto::SessionSpec spec) {
    auto make = [this, &spec]() -> Awaitable<Result<std::shared_ptr<channel::Session>>> {
        co_return std::make_shared<FakeSession>(strand_, std::move(spec), next_session_.fetch_add(1),
                                                witness_);
    };
    co_return co_await on_strand(strand_, std::move(make));
}

Awaitable<Result<std::shared_ptr<vm::ConsoleReader>>> FakeVm::console(std::uint64_t, bool follow) {
    co_return std::make_shared<FakeConsole>(follow, witness_);
}

vm::CheckpointView FakeCheckpoints::add(const std::string& vm, vm::CheckpointRequest request) {
    const std::lock_guard lock{mutex_};
    vm::CheckpointView view;
    std::array<char, 17> id{};
    std::snprintf(id.data(), id.size(), "%016zx", all_.size() + 1);
    view.id = id.data();
    view.vm_name = vm;
    view.name = std::move(request.name);
    view.label = std::move(request.label);
    view.created_at = "2023-11-14 22:13:20";
    return all_.emplace_back(std::move(view));
}

Result<std::size_t> FakeCheckpoints::position(const vm::VmName& vm, std::string_view which) const {
    for (std::size_t i = 0; i < all_.size(); ++i) {
        if (all_[i].id == which || (all_[i].vm_name == vm.text() && all_[i].name == which)) return i;
    }
    return fail(Errc::not_found, "checkpoint '" + std::string{which} + "' not found");
}

Awaitable<Result<std::vector<vm::CheckpointView>>> FakeCheckpoints::list(const vm::VmName& vm) {
    const std::lock_guard lock{mutex_};
    std::vector<vm::CheckpointView> found;
    for (const vm::CheckpointView& view : all_) {
        if (view.vm_name == vm.text()) found.push_back(view);
    }
    co_return found;
}

Awaitable<Result<vm::CheckpointView>> FakeCheckpoints::info(const vm::VmName& vm, std::string which) {
    const std::lock_guard lock{mutex_};
    const auto at = position(vm, which);
    if (!at) co_return fail(at.error());
    co_return all_[*at];
}

Awaitable<Result<vm::CheckpointView>> FakeCheckpoints::change(const vm::VmName& vm, std::string which,
                                                              vm::CheckpointChange change) {
    const std::lock_guard lock{mutex_};
    const auto at = position(vm, which);
    if (!at) co_return fail(at.error());
    if (change.name) all_[*at].name = *change.name;
    if (change.label) all_[*at].label = *change.label;
    co_return all_[*at];
}

Awaitable<Result<vm::CheckpointView>> FakeCheckpoints::remove(const vm::VmName& vm, std::string which) {
    const std::lock_guard lock{mutex_};
    const auto at = position(vm, which);
    if (!at) co_return fail(at.error());
    vm::CheckpointView removed = all_[*at];
    all_.erase(all_.begin() + static_cast<std::ptrdiff_t>(*at));
    co_return removed;
}

Awaitable<Result<std::vector<vm::CheckpointView>>> FakeCheckpoints::prune(const vm::VmName&,
                                                                          vm::PruneRule rule) {
    const std::lock_guard lock{mutex_};
    const std::size_t keep = std::min(rule.keep.value_or(0), all_.size());
    const auto end = all_.end() - static_cast<std::ptrdiff_t>(keep);
    std::vector<vm::CheckpointView> removed{all_.begin(), end};
    all_.erase(all_.begin(), end);
    co_return removed;
}

Awaitable<Result<vm::Restored>> FakeCheckpoints::restore(const vm::VmName& vm, vm::RestoreRequest request) {
    auto found = co_await info(vm, request.checkpoint);
    if (!found) co_return fail(found.error());
    vm::Restored restored;
    restored.vm.name = vm.text();
    restored.vm.state = vm::State::running;
    restored.vm.origin = found->id;
    if (request.keep_present) restored.kept = add(vm.text(), {});
    co_return restored;
}

Awaitable<Result<vm::VmView>> FakeCheckpoints::clone(const vm::VmName& vm, vm::CloneRequest request) {
    auto found = co_await info(vm, request.checkpoint);
    if (!found) co_return fail(found.error());
    vm::VmView view;
    view.name = request.name.text();
    view.state = vm::State::running;
    co_return view;
}

Awaitable<Result<std::vector<vm::VmView>>> FakeCheckpoints::fork(const vm::VmName& vm,
                                                                 vm::ForkRequest request) {
    std::vector<vm::VmView> clones(request.names.empty() ? request.count : request.names.size());
    for (std::size_t i = 0; i < clones.size(); ++i)
        clones[i].name =
            request.names.empty() ? vm.text() + "-" + std::to_string(i + 1) : request.names[i].text();
    co_return clones;
}

namespace {

class FakeSource final : public vm::CheckpointSource {
  public:
    explicit FakeSource(std::string text) : text_{std::move(text)} {}
    Awaitable<Result<std::string>> next() override { co_return left_-- > 0 ? text_ : std::string{}; }

  private:
    std::string text_;
    int left_ = 4;
};

class FakeSink final : public vm::CheckpointSink {
  public:
    FakeSink(FakeCheckpoints& owner, std::string vm) : owner_{owner}, vm_{std::move(vm)} {}
    Awaitable<Result<void>> write(std::string bytes) override {
        bytes_ += bytes;
        co_return Result<void>{};
    }
    Awaitable<Result<vm::CheckpointView>> finish() override {
        if (bytes_ == "broken") co_return fail(Errc::corrupt, "the stream is damaged");
        co_return owner_.add(vm_, vm::CheckpointRequest{"", bytes_});
    }

  private:
    FakeCheckpoints& owner_;
    std::string vm_;
    std::string bytes_;
};

}  // namespace

Awaitable<Result<std::unique_ptr<vm::CheckpointSource>>> FakeCheckpoints::export_stream(const vm::VmName& vm,
                                                                                        std::string which) {
    auto found = co_await info(vm, which);
    if (!found) co_return fail(found.error());
    co_return std::make_unique<FakeSource>(found->label);
}

Awaitable<Result<std::unique_ptr<vm::CheckpointSink>>> FakeCheckpoints::import_stream(const vm::VmName& vm,
                                                                                      vm::CheckpointRequest) {
    co_return std::make_unique<FakeSink>(*this, vm.text());
}

Awaitable<Result<vm::Tenant::Created>> FakeTenant::create(vm::CreateRequest request) {
    if (request.name.text() == "bug") throw std::logic_error{"a bug in the engine"};
    const std::lock_guard lock{mutex_};
    if (!request.idempotency_key.empty()) {
        if (const auto known = keys_.find(request.idempotency_key); known != keys_.end())
            co_return Created{vms_.at(known->second)->view(), true};
    }
    if (vms_.contains(request.name.text()))
        co_return fail(Errc::conflict, "VM '" + request.name.text() + "' already exists");
    vm::VmView view;
    view.name = request.name.text();
    view.state = vm::State::running;
    view.cpus = request.cpus;
    view.memory = request.memory;
    view.labels = request.labels;
    view.created_unix = 1'700'000'000 + static_cast<std::int64_t>(vms_.size() / 2);  // pairs in one second
    view.created_at = "2023-11-14 22:13:20";
    view.vmm = "qemu";
    view.start_kind = "boot";
    vms_[view.name] = std::make_shared<FakeVm>(loop_, view, checkpoints_, witness_);
    if (!request.idempotency_key.empty()) keys_[request.idempotency_key] = view.name;
    ++revision_;
    co_return Created{view, false};
}

std::vector<vm::VmView> FakeTenant::list() const {
    const std::lock_guard lock{mutex_};
    std::vector<vm::VmView> views;
    for (const auto& [name, machine] : vms_) views.push_back(machine->view());
    return views;
}

Result<std::shared_ptr<vm::Vm>> FakeTenant::find(const vm::VmName& name) const {
    const std::lock_guard lock{mutex_};
    const auto found = vms_.find(name.text());
    if (found == vms_.end()) return fail(Errc::not_found, "VM '" + name.text() + "' not found");
    return found->second;
}

Awaitable<Result<bool>> FakeTenant::destroy(const vm::VmName& name) {
    const std::lock_guard lock{mutex_};
    ++revision_;
    co_return vms_.erase(name.text()) > 0;
}

FakeEngine::FakeEngine(asio::io_context& loop) {
    for (const char* user : {"ann", "bob"})
        tenants_[token_of(user)] = std::make_shared<FakeTenant>(loop, user, witness_);
}

Result<std::shared_ptr<vm::Tenant>> FakeEngine::authenticate(std::string_view token) const {
    const auto found = tenants_.find(std::string{token});
    if (found == tenants_.end()) return fail(Errc::unauthenticated, "invalid token");
    return found->second;
}

Awaitable<Result<vm::Engine::NewToken>> FakeEngine::create_user(std::string name) {
    if (name == "ann" || name == "bob") co_return fail(Errc::conflict, "user '" + name + "' already exists");
    co_return NewToken{{"id-of-" + name, name, "2023-11-14 22:13:20"}, std::string(64, 'c')};
}

// Says so, and lets the token be.
Awaitable<Result<vm::Engine::NewToken>> FakeEngine::rotate_token(std::string name) {
    if (name == "ann") co_return NewToken{{"id-of-ann", name, "2023-11-14 22:13:20"}, token_of(name)};
    co_return fail(Errc::not_found, "user '" + name + "' not found");
}

Awaitable<Result<std::vector<vm::User>>> FakeEngine::users() {
    std::vector<vm::User> users;
    for (const auto& [token, tenant] : tenants_)
        users.push_back({tenant->user_id(), tenant->user_name(), "2023-11-14 22:13:20"});
    co_return users;
}

Awaitable<Result<vm::Engine::UserLimits>> FakeEngine::limits(std::string name) {
    co_return fail(Errc::not_found, "user '" + name + "' not found");
}

Awaitable<Result<vm::Engine::UserLimits>> FakeEngine::set_limits(std::string name, store::UserLimits) {
    co_return co_await limits(std::move(name));
}

Awaitable<Result<vm::User>> FakeEngine::delete_user(std::string name) {
    if (name == "bob") co_return vm::User{"id-of-bob", name, "2023-11-14 22:13:20"};
    co_return fail(Errc::not_found, "user '" + name + "' not found");
}

}  // namespace noid::api::testing
