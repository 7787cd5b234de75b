#include "qemu/qemu.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <optional>
#include <utility>

#include "base/file.hpp"
#include "launcher/launcher.hpp"
#include "qemu/command_line.hpp"
#include "qemu/host_trial.hpp"
#include "qemu/jail.hpp"
#include "qemu/machine.hpp"

namespace noid::qemu {

namespace {

class Vmm final : public vmm::Vmm {
  public:
    Vmm(asio::thread_pool& pool, std::filesystem::path program, Host host, vmm::Description description,
        std::optional<launcher::UserPool> users, std::shared_ptr<const launcher::Cgroups> cgroups)
        : pool_{pool},
          program_{std::move(program)},
          host_{host},
          description_{std::move(description)},
          users_{std::move(users)},
          cgroups_{std::move(cgroups)} {}

    [[nodiscard]] const vmm::Description& description() const override { return description_; }

    Awaitable<Result<std::unique_ptr<vmm::Machine>>> start(const vmm::MachineSpec& spec) override {
        // Named, because g++ 12 destroys an aggregate made inside a co_await expression twice.
        Beginning boot;
        co_return co_await launch(spec, std::move(boot), std::string{});
    }

    Awaitable<Result<std::unique_ptr<vmm::Machine>>> restore(const vmm::MachineSpec& spec,
                                                             const vmm::SnapshotFiles& files,
                                                             Wake wake) override {
        Beginning beginning{.memory_file = files.memory, .wake = wake};
        co_return co_await launch(spec, std::move(beginning), files.state);
    }

    Awaitable<Result<std::unique_ptr<vmm::Machine>>> adopt(const vmm::MachineSpec& spec,
                                                           ProcessIdentity identity) override {
        auto held = held_by(identity.pid);
        co_return co_await Machine::adopt(pool_, spec, identity, std::move(held));
    }

  private:
    Awaitable<Result<std::unique_ptr<vmm::Machine>>> launch(vmm::MachineSpec spec, Beginning beginning,
                                                            std::string state_file) {
        Held held;
        if (users_) {
            auto lease = users_->take();
            if (!lease) co_return fail(std::move(lease.error()));
            held.user = std::move(*lease);
        }
        if (users_ && cgroups_) {
            const auto limits = limits_of(spec, host_.accelerator == Accelerator::tcg);
            const auto make = [&] { return cgroups_->make(spec.id, limits); };
            auto cgroup = co_await on_pool(pool_, make);
            if (!cgroup) co_return fail(std::move(cgroup.error()));
            held.cgroup = std::make_shared<launcher::Cgroup>(std::move(*cgroup));
        }
        co_return co_await Machine::launch(pool_, program_, host_, std::move(spec), std::move(beginning),
                                           std::move(state_file), std::move(held));
    }

    // By a process that runs already; nothing where it is not confined.
    Held held_by(pid_t pid) {
        Held held;
        struct stat status {};
        const auto path = "/proc/" + std::to_string(pid);
        if (!users_ || ::stat(path.c_str(), &status) != 0) return held;
        if (auto lease = users_->take(status.st_uid)) held.user = std::move(*lease);
        if (auto cgroup = cgroups_ ? cgroups_->of_process(pid) : std::nullopt)
            held.cgroup = std::make_shared<launcher::Cgroup>(std::move(*cgroup));
        return held;
    }

    asio::thread_pool& pool_;
    std::filesystem::path program_;
    Host host_;
    vmm::Description description_;
    std::optional<launcher::UserPool> users_;
    std::shared_ptr<const launcher::Cgroups> cgroups_;
};

}  // namespace

Awaitable<Result<std::unique_ptr<vmm::Vmm>>> create(asio::thread_pool& pool, Options options) {
    auto program = launcher::find_program(options.program);
    if (!program) co_return fail(std::move(program.error()));
    auto version = co_await version_of(pool, *program);
    if (!version) co_return fail(std::move(version.error()));

    Host host;
    if (options.accelerate != Options::Accelerate::tcg) {
        auto tried = co_await try_kvm(pool, *program);
        if (tried) host.accelerator = Accelerator::kvm;
        if (!tried && options.accelerate == Options::Accelerate::kvm)
            co_return fail(std::move(tried.error()));
    }
    std::string host_cpu;
    if (host.accelerator == Accelerator::kvm) {
        const auto cpuinfo = read_file("/proc/cpuinfo", 16 << 20);
        if (!cpuinfo) co_return fail(cpuinfo.error());
        host_cpu = cpu_identity(*cpuinfo);
    } else {
        host.tsc_khz = co_await measure_tsc_khz();
    }
    host.vhost_net = ::access("/dev/vhost-net", R_OK | W_OK) == 0;

    const std::string accelerator{name_of(host.accelerator)};
    vmm::Description description{.kind = vmm::Kind::qemu,
                                 .version = *version,
                                 .accelerator = accelerator,
                                 .cpu_fingerprint = fingerprint(*version, accelerator, host_cpu),
                                 .can_pause_bare = true};
    std::optional<launcher::UserPool> users;
    if (options.users) users.emplace(*options.users);
    co_return std::make_unique<Vmm>(pool, std::move(*program), host, std::move(description), std::move(users),
                                    std::move(options.cgroups));
}

}  // namespace noid::qemu
