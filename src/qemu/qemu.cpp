#include "qemu/qemu.hpp"

#include <utility>

#include "base/file.hpp"
#include "base/log.hpp"
#include "qemu/command_line.hpp"
#include "qemu/host_trial.hpp"
#include "qemu/machine.hpp"

namespace noid::qemu {

namespace {

class Vmm final : public vmm::Vmm {
  public:
    Vmm(asio::thread_pool& pool, std::shared_ptr<vmm::Warden> warden, Host host, vmm::Description description)
        : pool_{pool}, warden_{std::move(warden)}, host_{host}, description_{std::move(description)} {}

    [[nodiscard]] const vmm::Description& description() const override { return description_; }

    Awaitable<Result<std::unique_ptr<vmm::Machine>>> start(const vmm::MachineSpec& spec) override {
        // Named, because g++ 12 destroys an aggregate made inside a co_await expression twice.
        Beginning boot;
        co_return co_await Machine::launch(pool_, warden_, host_, spec, std::move(boot), std::string{});
    }

    Awaitable<Result<std::unique_ptr<vmm::Machine>>> restore(const vmm::MachineSpec& spec,
                                                             const vmm::SnapshotFiles& files,
                                                             Wake wake) override {
        Beginning beginning{.memory_file = files.memory, .wake = wake};
        co_return co_await Machine::launch(pool_, warden_, host_, spec, std::move(beginning), files.state);
    }

    Awaitable<Result<std::unique_ptr<vmm::Machine>>> adopt(const vmm::MachineSpec& spec,
                                                           ProcessIdentity identity) override {
        co_return co_await Machine::adopt(pool_, warden_, spec, identity);
    }

  private:
    asio::thread_pool& pool_;
    std::shared_ptr<vmm::Warden> warden_;
    Host host_;
    vmm::Description description_;
};

}  // namespace

Awaitable<Result<std::unique_ptr<vmm::Vmm>>> create(asio::thread_pool& pool, Options options) {
    auto version = co_await version_of(pool, *options.warden);
    if (!version) co_return fail(std::move(version.error()));

    Host host;
    if (options.accelerate != Options::Accelerate::tcg) {
        auto tried = co_await try_kvm(pool, *options.warden);
        if (tried) host.accelerator = Accelerator::kvm;
        if (!tried && options.accelerate == Options::Accelerate::kvm)
            co_return fail(std::move(tried.error()));
        if (!tried) log::info("QEMU runs without KVM", {{"reason", tried.error().what}});
    }
    std::string host_cpu;
    if (host.accelerator == Accelerator::kvm) {
        const auto cpuinfo = read_file("/proc/cpuinfo", 16 << 20);
        if (!cpuinfo) co_return fail(cpuinfo.error());
        host_cpu = cpu_identity(*cpuinfo);
    } else {
        host.tsc_khz = co_await measure_tsc_khz();
    }
    host.vhost_net = options.warden->devices().vhost_net;

    const std::string accelerator{name_of(host.accelerator)};
    vmm::Description description{.kind = vmm::Kind::qemu,
                                 .version = *version,
                                 .accelerator = accelerator,
                                 .cpu_fingerprint = fingerprint(*version, accelerator, host_cpu),
                                 .can_pause_bare = true};
    co_return std::make_unique<Vmm>(pool, std::move(options.warden), host, std::move(description));
}

}  // namespace noid::qemu
