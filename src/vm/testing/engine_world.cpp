#include "vm/testing/engine_world.hpp"

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/asio/strand.hpp>
#include <csignal>
#include <fstream>
#include <thread>
#include <vector>

#include "store/tenant_database.hpp"

namespace noid::vm {

namespace fs = std::filesystem;

EngineWorld::EngineWorld()
    : directory_{TemporaryDirectory::create().value()},
      step_strand_{asio::make_strand(loop_)},
      step_taken_{step_strand_, asio::steady_timer::time_point::max()} {
    config_.paths.data_dir = directory_.path() / "data";
    config_.paths.kernel = directory_.path() / "vmlinux";
    config_.paths.rootfs = directory_.path() / "image.ext4";
    config_.guest.boot_timeout = std::chrono::seconds{1};
    config_.limits.max_vms = 5;
    config_.limits.max_sessions_per_vm = 2;
    config_.storage.template_budget = MiB{0};
    std::ofstream{config_.paths.kernel} << "kernel";
    std::ofstream{config_.paths.rootfs} << "image";
    fs::resize_file(config_.paths.rootfs, MiB{2}.bytes());
}

EngineWorld::~EngineWorld() {
    engine_.reset();
    for (const ProcessIdentity& process : script_->processes) {
        if (open_process(process)) ::kill(process.pid, SIGKILL);
    }
}

void EngineWorld::run(const std::function<Awaitable<void>()>& test) {
    std::exception_ptr thrown;
    asio::co_spawn(loop_, test(), [&thrown](std::exception_ptr failure) { thrown = failure; });
    {
        std::jthread second{[this] { loop_.run(); }};
        loop_.run();
    }
    loop_.restart();
    if (thrown) std::rethrow_exception(thrown);
}

bool EngineWorld::run_until_killed_at(const std::string& step, const std::function<Awaitable<void>()>& test) {
    loop_.notify_fork(asio::execution_context::fork_prepare);
    const pid_t child = ::fork();
    if (child == 0) {
        loop_.notify_fork(asio::execution_context::fork_child);
        script_->die_at = step;
        run(test);
        ::_exit(0);
    }
    loop_.notify_fork(asio::execution_context::fork_parent);
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

Awaitable<void> EngineWorld::open() {
    EngineParts parts{loop_,
                      config_,
                      std::make_unique<FakeVmm>(script_),
                      warden_,
                      std::make_unique<FakeNetwork>(script_),
                      fake_channels(script_)};
    parts.at_step = [this, script = script_](std::string_view step) -> Result<void> {
        std::unique_lock lock{script->mutex};
        script->steps.emplace_back(step);
        script->step_taken.notify_all();
        asio::post(step_strand_, [this] { step_taken_.cancel(); });
        if (script->die_at == step) ::kill(::getpid(), SIGKILL);
        if (script->fail_at == step) return fail(Errc::internal, "injected at " + std::string{step});
        const auto may_go_on = [&] { return std::ranges::count(script->steps, script->hold_until) > 0; };
        if (script->hold_at == step) script->step_taken.wait_for(lock, std::chrono::seconds{60}, may_go_on);
        return {};
    };
    parts.watch_pressure = [](const asio::any_io_executor&) -> Result<MemoryPressure> {
        return fail(Errc::unsupported, "tests are not about the host's memory");
    };
    auto opened = co_await LocalEngine::open(std::move(parts));
    if (!opened) throw std::runtime_error{opened.error().full()};
    engine_ = std::move(*opened);
}

Awaitable<void> EngineWorld::close() {
    co_await engine_->close();
    engine_.reset();
}

// The engine tells nobody of every change of a VM's state.
Awaitable<bool> EngineWorld::reaches(std::shared_ptr<Tenant> tenant, std::string name, State wanted) {
    asio::steady_timer timer{co_await asio::this_coro::executor};
    for (int i = 0; i < 6000; ++i) {
        for (const VmView& vm : tenant->list()) {
            if (vm.name == name && vm.state == wanted) co_return true;
        }
        timer.expires_after(std::chrono::milliseconds{10});
        co_await timer.async_wait(asio::use_awaitable);
    }
    co_return false;
}

Awaitable<bool> EngineWorld::reached(std::string step, std::size_t times) {
    auto wait = [this, &step, times]() -> Awaitable<Result<void>> {
        while (true) {
            {
                const std::lock_guard lock{script_->mutex};
                const auto seen = std::ranges::count(script_->steps, step);
                if (static_cast<std::size_t>(seen) >= times) co_return Result<void>{};
            }
            boost::system::error_code ignored;
            co_await step_taken_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
        }
    };
    auto in_time = [&wait]() -> Awaitable<Result<void>> {
        co_return co_await within(std::chrono::seconds{60}, wait());
    };
    const auto seen = co_await on_strand(step_strand_, in_time);
    co_return seen.has_value();
}

Awaitable<std::shared_ptr<Tenant>> EngineWorld::tenant(std::string user) {
    if (token_.empty()) {
        auto created = co_await engine_->create_user(user);
        if (!created) throw std::runtime_error{created.error().full()};
        token_ = created->secret;
        user_id_ = created->user.id;
    }
    auto found = engine_->authenticate(token_);
    if (!found) throw std::runtime_error{found.error().full()};
    co_return *found;
}

CreateRequest EngineWorld::request(const char* name) {
    CreateRequest request{.name = VmName::parse(name).value()};
    request.memory = MiB{128};
    return request;
}

std::size_t EngineWorld::alive() const {
    const std::lock_guard lock{script_->mutex};
    // One that has ended may wait for the host's first process to reap it.
    return static_cast<std::size_t>(std::ranges::count_if(script_->processes, [](const auto& process) {
        const auto running = open_process(process);
        pollfd end{running ? running->get() : -1, POLLIN, 0};
        return running && ::poll(&end, 1, 0) == 0;
    }));
}

fs::path EngineWorld::user_directory() const {
    return config_.paths.data_dir / "users" / user_id_;
}

void EngineWorld::expect_nothing_left() {
    EXPECT_EQ(alive(), 0u);
    EXPECT_TRUE(script_->slots.empty());
    EXPECT_TRUE(fs::is_empty(user_directory() / "vms"));
    EXPECT_TRUE(fs::is_empty(user_directory() / "logs"));
    auto database = store::TenantDatabase::open(user_directory() / "noid.db");
    ASSERT_TRUE(database);
    EXPECT_TRUE((*database)->vms()->empty());
    EXPECT_TRUE((*database)->intents()->empty());
}

}  // namespace noid::vm
