#include "qemu/machine.hpp"

#include <gmock/gmock.h>

#include <fcntl.h>
#include <unistd.h>

#include <boost/asio/write.hpp>
#include <filesystem>
#include <vector>

#include "base/file.hpp"
#include "qemu/qemu.hpp"
#include "qemu/testing/machine_fixture.hpp"

namespace noid::qemu {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using How = vmm::Exit::How;
using Wake = vmm::Vmm::Wake;

// A line of /proc/PID/smaps_rollup, in KiB.
std::uint64_t memory_counter(pid_t process, const std::string& name) {
    const auto text = read_file("/proc/" + std::to_string(process) + "/smaps_rollup", 1 << 16);
    const auto found = text ? text->find(name + ":") : std::string::npos;
    return found == std::string::npos ? 0 : std::stoull(text->substr(found + name.size() + 1));
}

// How a process has opened a file: O_RDONLY, O_RDWR; -1 if it has not.
int access_to(const std::filesystem::path& file, pid_t process) {
    const auto directory = std::filesystem::path{"/proc"} / std::to_string(process);
    for (const auto& entry : std::filesystem::directory_iterator{directory / "fd"}) {
        std::error_code failed;
        if (!std::filesystem::equivalent(entry.path(), file, failed)) continue;
        const auto about = read_file(directory / "fdinfo" / entry.path().filename(), 4096);
        const auto flags = about->find("flags:\t");
        return static_cast<int>(std::stoul(about->substr(flags + 7), nullptr, 8)) & O_ACCMODE;
    }
    return -1;
}

std::uint64_t number(const std::string& text) {
    return std::stoull(text);
}

TEST_F(MachineTest, BootsTalksPausesAndIsKilled) {
    run([this]() -> Awaitable<void> {
        const auto vmm = co_await create(pool_, options_);
        EXPECT_TRUE(vmm);
        const auto spec = machine_in("a");
        auto machine = co_await (*vmm)->start(spec);
        EXPECT_TRUE(machine) << machine.error().what;
        if (!machine) co_return;
        co_await console_until(**machine, "probe ready, port open");
        auto probe = co_await Probe::connect(**machine);

        EXPECT_TRUE(co_await (*machine)->pause());
        EXPECT_EQ((co_await (*machine)->pause()).error().code, Errc::conflict);
        EXPECT_TRUE(co_await (*machine)->resume());
        EXPECT_EQ((co_await (*machine)->resume()).error().code, Errc::conflict);
        EXPECT_EQ(co_await probe.ask("say through the console"), "said");
        co_await console_until(**machine, "through the console");

        // A new connection takes the place of the old one.
        auto second = co_await Probe::connect(**machine);
        EXPECT_EQ(co_await second.ask("x"), "echo x");

        EXPECT_TRUE(co_await (*machine)->kill(5s));
        const auto exit = co_await (*machine)->exited();
        EXPECT_EQ(exit.how, How::killed) << exit.detail;
    });
}

TEST_F(MachineTest, TellsHowTheGuestEnded) {
    run([this]() -> Awaitable<void> {
        const auto vmm = co_await create(pool_, options_);
        for (const auto& [command, how] :
             {std::pair{"shutdown", How::guest_shutdown}, std::pair{"reboot", How::guest_reboot}}) {
            const auto spec = machine_in(command);
            auto machine = co_await (*vmm)->start(spec);
            EXPECT_TRUE(machine) << machine.error().what;
            if (!machine) co_return;
            auto socket = co_await (*machine)->connect_agent();
            EXPECT_TRUE(socket);
            const std::string line = std::string{command} + "\n";
            co_await asio::async_write(*socket, asio::buffer(line), asio::use_awaitable);
            const auto exit = co_await (*machine)->exited();
            EXPECT_EQ(exit.how, how) << exit.detail;
        }
    });
}

TEST_F(MachineTest, IsTakenOverByAnotherOwner) {
    run([this]() -> Awaitable<void> {
        const auto vmm = co_await create(pool_, options_);
        const auto spec = machine_in("a");
        ProcessIdentity identity;
        {
            auto machine = co_await (*vmm)->start(spec);
            EXPECT_TRUE(machine) << machine.error().what;
            if (!machine) co_return;
            co_await Probe::connect(**machine);
            identity = (*machine)->identity();
        }
        auto other = identity;
        ++other.start_time;
        EXPECT_EQ((co_await (*vmm)->adopt(spec, other)).error().code, Errc::not_found);
        auto machine = co_await (*vmm)->adopt(spec, identity);
        EXPECT_TRUE(machine) << machine.error().what;
        if (!machine) co_return;
        auto probe = co_await Probe::connect(**machine);
        EXPECT_TRUE(co_await (*machine)->pause());
        EXPECT_TRUE(co_await (*machine)->resume());
        EXPECT_EQ(co_await probe.ask("x"), "echo x");
        EXPECT_TRUE(co_await (*machine)->kill(5s));
        EXPECT_EQ((co_await (*machine)->exited()).how, How::killed);
        EXPECT_EQ((co_await (*vmm)->adopt(spec, identity)).error().code, Errc::not_found);
    });
}

TEST_F(MachineTest, FailsToStartInWords) {
    run([this]() -> Awaitable<void> {
        const auto vmm = co_await create(pool_, options_);
        auto spec = machine_in("a");
        spec.rootfs = "missing.ext4";
        const auto machine = co_await (*vmm)->start(spec);
        EXPECT_FALSE(machine);
        EXPECT_THAT(machine.error().what, HasSubstr("missing.ext4"));
    });
}

TEST_F(MachineTest, IsSavedAndWakesElsewhereWhileItRunsOn) {
    run([this]() -> Awaitable<void> {
        const auto vmm = co_await create(pool_, options_);
        const auto spec = machine_in("source");
        auto source = co_await (*vmm)->start(spec);
        EXPECT_TRUE(source) << source.error().what;
        if (!source) co_return;
        auto probe = co_await Probe::connect(**source);
        EXPECT_EQ(co_await probe.ask("fill 8 1"), "filled");
        EXPECT_EQ(co_await probe.ask("write 7"), "7");

        EXPECT_EQ((co_await (*source)->save(files_, vmm::SnapshotKind::full)).error().code, Errc::conflict);
        EXPECT_TRUE(co_await (*source)->pause());
        const auto full = co_await (*source)->save(files_, vmm::SnapshotKind::full);
        EXPECT_TRUE(full) << full.error().what;
        if (!full) co_return;
        RecordProperty("full_bytes", static_cast<int>(full->bytes_written));
        RecordProperty("full_us", static_cast<int>(full->paused.count()));
        const auto clone_spec = clone_of(spec, "clone");
        EXPECT_TRUE(co_await (*source)->resume());

        // The source runs on, with the connection it had.
        const auto before = number(co_await probe.ask("ticks"));
        EXPECT_EQ(co_await probe.ask("check 8 1"), "same");
        EXPECT_GT(number(co_await probe.ask("ticks")), before);
        EXPECT_EQ(co_await probe.ask("fill 8 2"), "filled");
        EXPECT_EQ(co_await probe.ask("write 8"), "8");

        auto clone = co_await (*vmm)->restore(clone_spec, files_, Wake::paused);
        EXPECT_TRUE(clone) << clone.error().what;
        if (!clone) co_return;
        EXPECT_TRUE(co_await (*clone)->resume());
        auto clone_probe = co_await Probe::connect(**clone);
        EXPECT_EQ(co_await clone_probe.ask("check 8 1"), "same");
        EXPECT_EQ(co_await clone_probe.ask("read"), "7");
        EXPECT_EQ(co_await probe.ask("check 8 2"), "same");
        EXPECT_EQ(co_await probe.ask("read"), "8");

        // Incremental saves of the woken machine, one over the other, and the last one wakes again.
        auto previous = std::string{"memory.snap"};
        std::string state;
        for (const auto* seed : {"3", "4"}) {
            EXPECT_EQ(co_await clone_probe.ask(std::string{"fill 2 "} + seed), "filled");
            EXPECT_TRUE(co_await (*clone)->pause());
            const vmm::SnapshotFiles files{std::string{"memory."} + seed, std::string{"state."} + seed};
            const vmm::SnapshotFiles own{"memory.snap", files.state};
            EXPECT_EQ((co_await (*clone)->save(own, vmm::SnapshotKind::incremental)).error().code,
                      Errc::invalid);
            std::filesystem::copy_file(clone_spec.directory / previous, clone_spec.directory / files.memory);
            const auto saved = co_await (*clone)->save(files, vmm::SnapshotKind::incremental);
            EXPECT_TRUE(saved) << saved.error().what;
            if (!saved) co_return;
            RecordProperty(std::string{"incremental_bytes_"} + seed, static_cast<int>(saved->bytes_written));
            RecordProperty(std::string{"incremental_us_"} + seed, static_cast<int>(saved->paused.count()));
            EXPECT_LT(saved->bytes_written, 32U << 20);
            EXPECT_TRUE(co_await (*clone)->resume());
            previous = files.memory;
            state = files.state;
        }
        const auto last_spec = clone_of(clone_spec, "last", previous, state);
        EXPECT_TRUE(co_await (*clone)->kill(5s));
        auto last = co_await (*vmm)->restore(last_spec, files_, Wake::running);
        EXPECT_TRUE(last) << last.error().what;
        if (!last) co_return;
        auto last_probe = co_await Probe::connect(**last);
        EXPECT_EQ(co_await last_probe.ask("check 2 4"), "same");
        const auto ticks = number(co_await last_probe.ask("ticks"));
        EXPECT_EQ(co_await last_probe.ask("fill 8 5"), "filled");
        EXPECT_GT(number(co_await last_probe.ask("ticks")), ticks);
        EXPECT_TRUE(co_await (*last)->kill(5s));
        EXPECT_TRUE(co_await (*source)->kill(5s));
    });
}

TEST_F(MachineTest, ManyWakeAtOnceFromOneSnapshotAndShareIt) {
    run([this]() -> Awaitable<void> {
        const auto vmm = co_await create(pool_, options_);
        const auto spec = machine_in("source");
        auto source = co_await (*vmm)->start(spec);
        EXPECT_TRUE(source) << source.error().what;
        if (!source) co_return;
        auto probe = co_await Probe::connect(**source);
        EXPECT_EQ(co_await probe.ask("fill 16 1"), "filled");
        EXPECT_TRUE(co_await (*source)->pause());
        EXPECT_TRUE(co_await (*source)->save(files_, vmm::SnapshotKind::full));
        constexpr int clones = 4;
        std::vector<vmm::MachineSpec> specs;
        for (int i = 0; i < clones; ++i) specs.push_back(clone_of(spec, "clone" + std::to_string(i)));
        EXPECT_TRUE(co_await (*source)->kill(5s));

        // Each on its own, all of them before the first is asked anything.
        std::vector<std::unique_ptr<vmm::Machine>> machines(clones);
        int awake = 0;
        asio::steady_timer all_awake{loop_, asio::steady_timer::time_point::max()};
        for (int i = 0; i < clones; ++i) {
            const auto wake = [&, i]() -> Awaitable<void> {
                auto machine = co_await (*vmm)->restore(specs[i], files_, Wake::running);
                EXPECT_TRUE(machine) << machine.error().what;
                if (machine) machines[i] = std::move(*machine);
                if (++awake == clones) all_awake.cancel();
            };
            asio::co_spawn(loop_, wake, [](std::exception_ptr thrown) { EXPECT_EQ(thrown, nullptr); });
        }
        if (awake < clones) {
            boost::system::error_code cancelled;
            co_await all_awake.async_wait(asio::redirect_error(asio::use_awaitable, cancelled));
        }
        for (int i = 0; i < clones; ++i) {
            if (!machines[i]) continue;
            auto clone = co_await Probe::connect(*machines[i]);
            EXPECT_EQ(co_await clone.ask("check 16 1"), "same");
            EXPECT_EQ(co_await clone.ask("fill 1 " + std::to_string(i + 2)), "filled");
            EXPECT_EQ(co_await clone.ask("check 1 " + std::to_string(i + 2)), "same");
            // What it has not changed it shares with the others.
            EXPECT_GT(memory_counter(machines[i]->identity().pid, "Shared_Clean"), 16U << 10);
        }
        for (auto& machine : machines) {
            if (!machine) continue;
            EXPECT_TRUE(co_await machine->kill(5s));
        }
    });
}

TEST_F(MachineTest, IsConfined) {
    if (::geteuid() != 0) GTEST_SKIP() << "confinement takes root";
    run([this]() -> Awaitable<void> {
        std::shared_ptr<const launcher::Cgroups> cgroups;
        if (const auto place = launcher::Cgroups::usual_directory()) {
            if (auto groups = launcher::Cgroups::open(*place))
                cgroups = std::make_shared<const launcher::Cgroups>(std::move(*groups));
        }
        const Options confined{.warden = std::move(*privileged::LocalWarden::open(
                                   {.qemu = qemu_program,
                                    .data_dir = (*directory_)->path(),
                                    .users = launcher::UserRange{.first = 2'100'000, .count = 2},
                                    .cgroups = cgroups}))};
        const auto vmm = co_await create(pool_, confined);
        const auto spec = machine_in("a");
        const auto directory_b = machine_in("b").directory;
        auto machine = co_await (*vmm)->start(spec);
        EXPECT_TRUE(machine) << machine.error().what;
        if (!machine) co_return;
        auto probe = co_await Probe::connect(**machine);
        const auto process = "/proc/" + std::to_string((*machine)->identity().pid);
        const auto status = read_file(process + "/status", 1 << 16);
        EXPECT_THAT(*status, HasSubstr("Uid:\t2100000\t2100000\t2100000\t2100000\n"));
        EXPECT_THAT(*status, HasSubstr("Gid:\t2100000\t2100000\t2100000\t2100000\n"));
        EXPECT_THAT(*status, HasSubstr("CapEff:\t0000000000000000\n"));
        EXPECT_THAT(*status, HasSubstr("CapBnd:\t0000000000000000\n"));
        EXPECT_THAT(*status, HasSubstr("NoNewPrivs:\t1\n"));
        EXPECT_THAT(*status, HasSubstr("Seccomp:\t2\n"));
        for (const auto* absent : {"/proc", "/sys", "/etc", "/root", "/home", "/var"})
            EXPECT_FALSE(std::filesystem::exists(process + "/root" + absent)) << absent;
        EXPECT_TRUE(std::filesystem::exists(process + "/root" + spec.directory.string()));
        EXPECT_FALSE(std::filesystem::exists(process + "/root" + directory_b.string()));

        // It is saved, and wakes as another user.
        EXPECT_EQ(co_await probe.ask("fill 4 1"), "filled");
        EXPECT_EQ(co_await probe.ask("write 5"), "5");
        EXPECT_TRUE(co_await (*machine)->pause());
        const auto saved = co_await (*machine)->save(files_, vmm::SnapshotKind::full);
        EXPECT_TRUE(saved) << saved.error().what;
        if (!saved) co_return;
        const auto clone_spec = clone_of(spec, "clone");
        EXPECT_TRUE(co_await (*machine)->resume());
        auto clone = co_await (*vmm)->restore(clone_spec, files_, Wake::running);
        EXPECT_TRUE(clone) << clone.error().what;
        if (!clone) co_return;
        auto clone_probe = co_await Probe::connect(**clone);
        EXPECT_EQ(co_await clone_probe.ask("check 4 1"), "same");
        EXPECT_EQ(co_await clone_probe.ask("read"), "5");
        EXPECT_EQ(co_await probe.ask("check 4 1"), "same");
        // What others wake from it can only read.
        EXPECT_EQ(access_to(clone_spec.directory / "memory.snap", (*clone)->identity().pid), O_RDONLY);
        EXPECT_EQ(std::filesystem::status(clone_spec.directory / "memory.snap").permissions(),
                  std::filesystem::perms{0444});
        // Both users are taken.
        const auto third_spec = clone_of(spec, "third");
        EXPECT_EQ((co_await (*vmm)->restore(third_spec, files_, Wake::running)).error().code,
                  Errc::limit_exceeded);

        // An adopted one keeps its user and its control group, which go with it.
        const auto identity = (*machine)->identity();
        if (cgroups) {
            EXPECT_TRUE(cgroups->of_process(identity.pid));
            EXPECT_FALSE(cgroups->of_process(::getpid()));
        }
        machine->reset();
        machine = co_await (*vmm)->adopt(spec, identity);
        EXPECT_TRUE(machine) << machine.error().what;
        if (!machine) co_return;
        EXPECT_TRUE(co_await (*machine)->kill(5s));
        EXPECT_EQ((co_await (*machine)->exited()).how, How::killed);
        EXPECT_TRUE(co_await (*clone)->kill(5s));
    });
}

// The devices belong to the snapshot: one that was made before there was a balloon wakes without one, and
// nowhere else.
TEST_F(MachineTest, ASnapshotWithoutABalloonWakesWithoutOne) {
    run([this]() -> Awaitable<void> {
        const auto vmm = co_await create(pool_, options_);
        auto spec = machine_in("source");
        spec.layout = 0;
        auto source = co_await (*vmm)->start(spec);
        EXPECT_TRUE(source) << source.error().what;
        if (!source) co_return;
        auto probe = co_await Probe::connect(**source);
        EXPECT_EQ(co_await probe.ask("fill 4 1"), "filled");
        EXPECT_EQ((co_await (*source)->set_balloon(MiB{16})).error().code, Errc::unsupported);
        EXPECT_EQ((co_await (*source)->memory_numbers()).error().code, Errc::unsupported);
        EXPECT_TRUE(co_await (*source)->pause());
        EXPECT_TRUE(co_await (*source)->save(files_, vmm::SnapshotKind::full));
        auto clone_spec = clone_of(spec, "clone");
        clone_spec.layout = 0;
        auto clone = co_await (*vmm)->restore(clone_spec, files_, Wake::running);
        EXPECT_TRUE(clone) << clone.error().what;
        if (!clone) co_return;
        auto clone_probe = co_await Probe::connect(**clone);
        EXPECT_EQ(co_await clone_probe.ask("check 4 1"), "same");
        EXPECT_TRUE(co_await (*clone)->kill(5s));
        EXPECT_TRUE(co_await (*source)->kill(5s));
    });
}

TEST_F(MachineTest, ItsDevicesAreLimitedAndCounted) {
    run([this]() -> Awaitable<void> {
        const auto vmm = co_await create(pool_, options_);
        auto spec = machine_in("a");
        spec.disk_limit = {.bytes_per_second = 1'000'000, .operations_per_second = 100};
        spec.balloon = MiB{8};
        auto machine = co_await (*vmm)->start(spec);
        EXPECT_TRUE(machine) << machine.error().what;
        if (!machine) co_return;
        co_await Probe::connect(**machine);
        EXPECT_TRUE(co_await (*machine)->device_numbers());
        EXPECT_TRUE(co_await (*machine)->memory_numbers());
        EXPECT_TRUE(co_await (*machine)->set_balloon(MiB{16}));
        EXPECT_EQ((co_await (*machine)->set_balloon(spec.memory)).error().code, Errc::invalid);
        EXPECT_TRUE(co_await (*machine)->pause());
        EXPECT_TRUE(co_await (*machine)->set_disk_limit({}));
        EXPECT_TRUE(co_await (*machine)->resume());
        EXPECT_TRUE(co_await (*machine)->kill(5s));
    });
}

TEST_F(MachineTest, RefusesABrokenSnapshot) {
    run([this]() -> Awaitable<void> {
        const auto vmm = co_await create(pool_, options_);
        const auto spec = machine_in("a");
        std::filesystem::resize_file(spec.directory / "rootfs.ext4", 1 << 20);
        for (const auto* name : {"memory.snap", "vmstate.snap"}) {
            std::filesystem::copy_file(spec.directory / "rootfs.ext4", spec.directory / name);
        }
        std::filesystem::resize_file(spec.directory / "memory.snap", spec.memory.bytes());
        const auto machine = co_await (*vmm)->restore(spec, files_, Wake::running);
        EXPECT_FALSE(machine);
    });
}

}  // namespace
}  // namespace noid::qemu
