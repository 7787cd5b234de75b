#include "vm/warm_vm.hpp"

#include <sys/stat.h>

#include <boost/asio/strand.hpp>
#include <cerrno>
#include <chrono>
#include <exception>
#include <utility>
#include <variant>

#include "base/log.hpp"
#include "base/random.hpp"
#include "vm/data_directory.hpp"
#include "vm/machine_spec.hpp"
#include "vm/race.hpp"
#include "vm/stray_processes.hpp"

namespace noid::vm {

using namespace std::chrono_literals;

namespace {

constexpr auto trial_limit = 60s;

// The shell's start-up and a program of its own: what nearly every first command goes through.
constexpr auto trial_command = {"/bin/sh", "-c", "/bin/true; exit 0"};

// Until it is somebody's it reaches nothing.
NetworkSettings cut_off() {
    NetworkSettings settings;
    settings.mode = NetworkMode::none;
    return settings;
}

}  // namespace

WarmVm::WarmVm(Host& host, Origin origin, const std::filesystem::path& place)
    : host_{host},
      origin_{std::move(origin)},
      id_{random_hex(8)},
      directory_{place / id_},
      strand_{asio::make_strand(host.loop)},
      released_{strand_} {}

Result<void> WarmVm::reached(std::string_view step) const {
    return host_.at_step ? host_.at_step(step) : Result<void>{};
}

Awaitable<Result<std::shared_ptr<WarmVm>>> WarmVm::wake(Host& host, Origin origin,
                                                        std::filesystem::path place) {
    const std::shared_ptr<WarmVm> vm{new WarmVm{host, std::move(origin), place}};
    auto work = [vm]() -> Awaitable<Result<void>> {
        Result<void> woken = fail(Errc::cancelled, "cancelled");
        std::exception_ptr thrown;
        try {
            woken = co_await vm->wake_now();
        } catch (...) {
            thrown = std::current_exception();
        }
        co_await ignore_cancellation();
        if (woken) co_return woken;
        if (thrown && !detail::is_cancellation(thrown)) log::exception("wake ahead of time", thrown);
        co_await vm->end_now();
        co_return woken;
    };
    if (auto woken = co_await on_strand(vm->strand_, work); !woken) co_return fail(std::move(woken.error()));
    co_return vm;
}

Awaitable<Result<void>> WarmVm::wake_now() {
    if (auto placed = co_await take_place_on_network(); !placed) co_return placed;
    auto make_files = [this]() -> Result<void> {
        if (::mkdir(directory_.c_str(), 0700) != 0) return fail_errno(errno, "create a directory");
        return unfold_snapshot(host_.volume, origin_.place, directory_, origin_.config.id);
    };
    if (auto made = co_await on_pool(host_.files, std::move(make_files)); !made) co_return made;
    if (auto go = reached("pool:prepared"); !go) co_return go;

    const SnapshotConfig& config = origin_.config;
    auto spec = machine_spec(host_.config, id_, directory_, config.cpus, config.memory, slot_);
    spec.layout = config.layout;
    spec.disk_limit = spec.saved_disk_limit = config.resources.disk;
    spec.balloon = config.resources.balloon;
    auto woken = co_await host_.vmm.restore(spec, vmm::SnapshotFiles{}, vmm::Vmm::Wake::paused);
    if (!woken) co_return fail(std::move(woken.error()));
    std::shared_ptr<vmm::Machine> machine{std::move(*woken)};
    machine_.channel = host_.make_channel(strand_, [machine] { return machine->connect_agent(); });
    machine_.machine = std::move(machine);
    if (auto go = reached("pool:restored"); !go) co_return go;
    // What its first steps take is paid now, where a VMM can stop it again without further ado.
    if (host_.vmm.description().can_pause_bare) {
        if (auto warm = co_await come_up_and_stand_still(); !warm) co_return warm;
    }
    co_return reached("pool:ready");
}

Awaitable<Result<void>> WarmVm::take_place_on_network() {
    auto slot = co_await host_.network.acquire(id_, cut_off());
    if (!slot) co_return fail(std::move(slot.error()));
    slot_ = std::move(*slot);
    // Only a VM that a create would wake here and now is worth keeping.
    if (origin_.config.has_network && !slot_)
        co_return fail(Errc::unavailable, "it was saved with a network, and there is none now: " +
                                              host_.network.unavailable_reason());
    if (!origin_.config.has_network && slot_)
        co_return fail(Errc::unavailable, "it was saved without a network, and there is one now");
    co_return Result<void>{};
}

Awaitable<Result<void>> WarmVm::come_up_and_stand_still() {
    const auto machine = machine_.machine;
    const auto channel = machine_.channel;
    if (auto resumed = co_await machine->resume(); !resumed) co_return resumed;
    channel->start();
    auto answered = co_await channel->ready(host_.config.guest.boot_timeout);
    if (!answered) co_return fail(std::move(answered.error()));
    if (auto tried = co_await within(trial_limit, try_out(*channel)); !tried) co_return tried;
    // Between two frames, so that the stream is whole when it goes on.
    if (auto held = co_await channel->hold_traffic(); !held) co_return held;
    co_return co_await machine->pause();
}

// Gives the guest an identity and runs a command in it. Whatever such a thing needs for the first time (pages
// of the snapshot, under QEMU's emulation code that is translated) then costs no create anything. All that is
// left of it is an identity that is replaced, and a process id that is not used again.
Awaitable<Result<void>> WarmVm::try_out(channel::AgentChannel& channel) {
    proto::Identity identity;
    identity.entropy = random_bytes<64>();
    identity.hostname = "localhost";
    identity.machine_id = random_hex(16);
    identity.new_boot_id = true;
    identity.end_sessions = true;
    if (slot_) identity.network = slot_->guest;
    auto renewed = co_await channel.renew_identity(std::move(identity), trial_limit);
    if (!renewed) co_return renewed;
    proto::Exec command;
    command.argv.assign(trial_command.begin(), trial_command.end());
    command.input = false;
    proto::SessionSpec spec;
    spec.operation = std::move(command);
    auto session = co_await channel.open(std::move(spec));
    if (!session) co_return fail(std::move(session.error()));
    // An image without a shell is no worse for it.
    while (true) {
        auto event = co_await (*session)->next();
        if (!event) co_return fail(std::move(event.error()));
        if (std::holds_alternative<channel::Session::Ended>(*event)) break;
    }
    // Whoever asks for statistics first, asks soon.
    auto asked = co_await channel.stats();
    if (!asked) co_return fail(std::move(asked.error()));
    co_return Result<void>{};
}

WarmVm::Machine WarmVm::release() {
    released_.notify();
    return std::exchange(machine_, {});
}

Awaitable<bool> WarmVm::ended_by_itself() {
    auto self = shared_from_this();
    auto work = [self]() -> Awaitable<Result<void>> {
        auto exited = [](std::shared_ptr<vmm::Machine> machine) -> Awaitable<Result<void>> {
            co_await machine->exited();
            co_return Result<void>{};
        };
        auto released = [](std::shared_ptr<WarmVm> vm) -> Awaitable<Error> {
            while (vm->machine_.machine) co_await vm->released_.wait();
            co_return Error{Errc::cancelled, "released"};
        };
        if (!self->machine_.machine) co_return fail(Errc::cancelled, "released");
        co_return co_await unless<void>(exited(self->machine_.machine), released(self));
    };
    const auto ended = co_await on_strand(strand_, work);
    co_return ended.has_value();
}

Awaitable<void> WarmVm::end() {
    auto self = shared_from_this();
    auto work = [self]() -> Awaitable<Result<void>> {
        co_await ignore_cancellation();
        co_await self->end_now();
        co_return Result<void>{};
    };
    (void)co_await on_strand(strand_, work);
}

// On the strand.
Awaitable<void> WarmVm::end_now() {
    const Machine running = release();
    if (running.channel) running.channel->stop();
    if (running.machine) {
        if (auto ended = co_await running.machine->kill(0ms); !ended)
            log::error("VM of the pool does not end", {{"vm_id", id_}, {"reason", ended.error().full()}});
    } else {
        // One that was started without being handed to us.
        auto look = [this] { return processes_in(host_.warden, directory_); };
        const auto strays = co_await on_pool(host_.files, std::move(look));
        if (!strays) log::error("stray processes cannot be found", {{"reason", strays.error().full()}});
        for (const ProcessIdentity& process : strays.value_or(std::vector<ProcessIdentity>{}))
            (void)co_await end_process(host_.warden, host_.files, process, directory_);
    }
    Result<void> released;
    if (has_slot_) released = co_await host_.network.release(id_);
    if (!released)
        log::warn("network slot not given back", {{"vm_id", id_}, {"reason", released.error().full()}});
    auto remove = [this] { return remove_tree(directory_, host_.warden); };
    if (auto removed = co_await on_pool(host_.files, std::move(remove)); !removed)
        log::warn("files of a VM of the pool are left until the next start",
                  {{"vm_id", id_}, {"reason", removed.error().full()}});
}

}  // namespace noid::vm
