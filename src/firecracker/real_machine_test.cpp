// What the fast tests only script, on a real Firecracker with a real guest, whose only program is the
// machine probe. tests/nested/run runs this in its emulated host. Skipped unless the environment names
//   NOID_FIRECRACKER   the program
//   NOID_PROBE_KERNEL  a kernel
//   NOID_PROBE_INITRD  an initrd with the probe as its init
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/write.hpp>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>

#include "base/file.hpp"
#include "base/process_identity.hpp"
#include "base/temporary_directory.hpp"
#include "firecracker/vmm.hpp"
#include "privileged/local_warden.hpp"

namespace noid::firecracker {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using How = vmm::Exit::How;
using Wake = vmm::Vmm::Wake;
using vmm::SnapshotKind;
using Socket = asio::local::stream_protocol::socket;

constexpr MiB memory_size{128};

// Gives the value, or fails the test.
template <class T>
T must(Result<T> result) {
    if (!result) throw std::runtime_error{result.error().full()};
    if constexpr (!std::is_void_v<T>) return std::move(*result);
}

// One line to the probe and its answer.
Awaitable<std::string> ask(Socket& socket, std::string line) {
    line += '\n';
    std::string answer;
    const auto talk = [&]() -> Awaitable<Result<std::size_t>> {
        co_await asio::async_write(socket, asio::buffer(line), asio::use_awaitable);
        co_return co_await asio::async_read_until(socket, asio::dynamic_buffer(answer, 4096), '\n',
                                                  asio::use_awaitable);
    };
    must(co_await within(60s, talk()));
    answer.pop_back();
    co_return answer;
}

Awaitable<std::string> connect_and_ask(vmm::Machine& machine, std::string line) {
    auto socket = must(co_await machine.connect_agent());
    co_return co_await ask(socket, std::move(line));
}

Awaitable<std::string> console_until(vmm::Machine& machine, std::string text) {
    std::string all;
    while (!all.contains(text)) all += must(co_await machine.read_console());
    co_return all;
}

class RealMachineTest : public testing::Test {
  protected:
    void SetUp() override {
        for (const auto& [variable, path] : {std::pair{"NOID_FIRECRACKER", &program_},
                                             {"NOID_PROBE_KERNEL", &kernel_},
                                             {"NOID_PROBE_INITRD", &initrd_}}) {
            const char* value = std::getenv(variable);
            if (value == nullptr) GTEST_SKIP() << variable << " is not set";
            *path = value;
        }
        std::signal(SIGPIPE, SIG_IGN);
    }

    // Runs a test's body with an open VMM; it fails when it takes longer than 5 min.
    void run(const std::function<Awaitable<void>(vmm::Vmm&)>& body, bool confined = ::geteuid() == 0) {
        std::exception_ptr thrown;
        Result<int> ended = fail(Errc::internal, "the test did not end");
        const auto guarded = [&]() -> Awaitable<Result<int>> {
            privileged::LocalWarden::Options options{.firecracker = program_, .data_dir = home_.path()};
            if (confined) {
                options.users.emplace(launcher::UserRange{.first = 2'000'000, .count = 16});
                if (auto groups = launcher::Cgroups::open(must(launcher::Cgroups::usual_directory())))
                    groups_ = options.cgroups = std::make_shared<launcher::Cgroups>(std::move(*groups));
            }
            std::shared_ptr<vmm::Warden> warden = must(privileged::LocalWarden::open(std::move(options)));
            const auto vmm = must(co_await open(std::move(warden), pool_));
            co_await body(*vmm);
            co_return 0;
        };
        asio::co_spawn(loop_, within(5min, guarded()), [&](std::exception_ptr e, Result<int> result) {
            thrown = e;
            ended = std::move(result);
        });
        loop_.run();
        if (thrown) std::rethrow_exception(thrown);
        EXPECT_TRUE(ended) << ended.error().full();
    }

    vmm::MachineSpec machine_in(const std::string& name) {
        vmm::MachineSpec spec;
        spec.id = name;
        spec.directory = home_.path() / name;
        std::filesystem::create_directory(spec.directory);
        std::ofstream{spec.directory / "rootfs.ext4"};
        std::filesystem::resize_file(spec.directory / "rootfs.ext4", 1 << 20);
        spec.memory = memory_size;
        spec.kernel = kernel_;
        spec.initrd = initrd_;
        spec.track_dirty_pages = true;
        return spec;
    }

    // Another VM's directory with the files of a saved machine, as the server lays them there.
    vmm::MachineSpec clone_of(const vmm::MachineSpec& source, const std::string& name,
                              const vmm::SnapshotFiles& files) {
        auto spec = machine_in(name);
        std::filesystem::copy_file(source.directory / "rootfs.ext4", spec.directory / "rootfs.ext4",
                                   std::filesystem::copy_options::overwrite_existing);
        std::filesystem::create_hard_link(source.directory / files.memory, spec.directory / "memory.snap");
        std::filesystem::create_hard_link(source.directory / files.state, spec.directory / "vmstate.snap");
        return spec;
    }

    Awaitable<std::unique_ptr<vmm::Machine>> booted(vmm::Vmm& vmm, const vmm::MachineSpec& spec) {
        auto machine = must(co_await vmm.start(spec));
        co_await console_until(*machine, "probe ready, port open");
        co_return std::move(machine);
    }

    std::shared_ptr<const launcher::Cgroups> groups_;  // none: not confined, or none to be had
    asio::io_context loop_;
    asio::thread_pool pool_{1};
    std::filesystem::path program_;
    std::filesystem::path kernel_;
    std::filesystem::path initrd_;
    TemporaryDirectory home_ = std::move(*TemporaryDirectory::create());
};

TEST_F(RealMachineTest, BootsTalksAndIsKilled) {
    run([this](vmm::Vmm& vmm) -> Awaitable<void> {
        EXPECT_EQ(vmm.description().kind, vmm::Kind::firecracker);
        EXPECT_EQ(vmm.description().accelerator, "kvm");
        const auto spec = machine_in("a");
        const auto machine = co_await booted(vmm, spec);
        EXPECT_EQ(co_await connect_and_ask(*machine, "hello"), "echo hello");
        EXPECT_EQ(co_await connect_and_ask(*machine, "say through the console"), "said");
        co_await console_until(*machine, "through the console");
        must(co_await machine->write_console("a line\n"));
        if (groups_) {
            EXPECT_TRUE(groups_->of_process(machine->identity().pid));
        }

        must(co_await machine->pause());
        must(co_await machine->resume());
        EXPECT_EQ(co_await connect_and_ask(*machine, "after a pause"), "echo after a pause");
        EXPECT_EQ((co_await machine->resume()).error().code, Errc::conflict);

        must(co_await machine->kill(5s));
        const auto exit = co_await machine->exited();
        EXPECT_EQ(exit.how, How::killed) << exit.detail;
        EXPECT_EQ((co_await machine->connect_agent()).error().code, Errc::unavailable);
    });
}

TEST_F(RealMachineTest, TellsHowItEnded) {
    const auto body = [this](vmm::Vmm& vmm) -> Awaitable<void> {
        const auto left_spec = machine_in("left");
        const auto left = co_await booted(vmm, left_spec);
        auto socket = must(co_await left->connect_agent());
        const std::string line = "reboot\n";
        co_await asio::async_write(socket, asio::buffer(line), asio::use_awaitable);
        const auto rebooted = co_await left->exited();
        EXPECT_EQ(rebooted.how, How::guest_shutdown) << rebooted.detail;

        const auto broken_spec = machine_in("broken");
        const auto broken = co_await booted(vmm, broken_spec);
        ::kill(broken->identity().pid, SIGABRT);
        const auto crashed = co_await broken->exited();
        EXPECT_EQ(crashed.how, How::crashed) << crashed.detail;
        EXPECT_THAT(crashed.detail, HasSubstr("signal 6"));
    };
    // As process 1 of its own namespace it would not hear the signal.
    run(body, false);
}

TEST_F(RealMachineTest, WakesAsItWasSavedFullAndIncrementally) {
    run([this](vmm::Vmm& vmm) -> Awaitable<void> {
        const auto spec = machine_in("a");
        const auto machine = co_await booted(vmm, spec);
        EXPECT_EQ(co_await connect_and_ask(*machine, "fill 16 1"), "filled");
        EXPECT_EQ(co_await connect_and_ask(*machine, "write 11"), "11");

        must(co_await machine->pause());
        const vmm::SnapshotFiles whole{"memory.1", "state.1"};
        const auto full = must(co_await machine->save(whole, SnapshotKind::full));
        EXPECT_GE(full.bytes_written, memory_size.bytes());
        const auto first = clone_of(spec, "first", whole);
        must(co_await machine->resume());

        // The save has closed the connections; the guest takes new ones and goes on.
        EXPECT_EQ(co_await connect_and_ask(*machine, "check 16 1"), "same");
        EXPECT_EQ(co_await connect_and_ask(*machine, "fill 4 2"), "filled");
        EXPECT_EQ(co_await connect_and_ask(*machine, "write 22"), "22");
        const vmm::SnapshotFiles changed{"memory.2", "state.2"};
        std::filesystem::copy_file(spec.directory / whole.memory, spec.directory / changed.memory);
        must(co_await machine->pause());
        const auto diff = must(co_await machine->save(changed, SnapshotKind::incremental));
        EXPECT_GE(diff.bytes_written, MiB{4}.bytes());
        EXPECT_LT(diff.bytes_written, MiB{16}.bytes());
        const auto second = clone_of(spec, "second", changed);
        must(co_await machine->resume());
        EXPECT_EQ(co_await connect_and_ask(*machine, "check 4 2"), "same");

        const auto old = must(co_await vmm.restore(first, {}, Wake::running));
        EXPECT_EQ(co_await connect_and_ask(*old, "check 16 1"), "same");
        EXPECT_EQ(co_await connect_and_ask(*old, "read"), "11");
        const auto paused = must(co_await vmm.restore(second, {}, Wake::paused));
        EXPECT_EQ((co_await paused->pause()).error().code, Errc::conflict);
        must(co_await paused->resume());
        EXPECT_EQ(co_await connect_and_ask(*paused, "check 4 2"), "same");
        EXPECT_EQ(co_await connect_and_ask(*paused, "read"), "22");
        // What the first 4 MiB do not cover has come from the first save.
        EXPECT_EQ(co_await connect_and_ask(*paused, "fill 4 1"), "filled");
        EXPECT_EQ(co_await connect_and_ask(*paused, "check 16 1"), "same");

        // A restored machine, too, saves only what changed since.
        std::filesystem::copy_file(second.directory / "memory.snap", second.directory / changed.memory);
        must(co_await paused->pause());
        const auto again = must(co_await paused->save(changed, SnapshotKind::incremental));
        EXPECT_LT(again.bytes_written, MiB{16}.bytes());
        must(co_await paused->resume());
        EXPECT_EQ(co_await connect_and_ask(*paused, "check 16 1"), "same");

        must(co_await machine->kill(0s));
        must(co_await old->kill(0s));
        must(co_await paused->kill(0s));
    });
}

// The devices belong to the snapshot: one that was made before there was a balloon wakes without one.
TEST_F(RealMachineTest, ASnapshotWithoutABalloonWakesWithoutOne) {
    run([this](vmm::Vmm& vmm) -> Awaitable<void> {
        auto spec = machine_in("a");
        spec.layout = 0;
        const auto machine = co_await booted(vmm, spec);
        EXPECT_EQ(co_await connect_and_ask(*machine, "fill 4 1"), "filled");
        EXPECT_EQ((co_await machine->set_balloon(MiB{16})).error().code, Errc::unsupported);
        must(co_await machine->pause());
        must(co_await machine->save({}, SnapshotKind::full));
        auto clone = clone_of(spec, "clone", {});
        clone.layout = 0;
        const auto woken = must(co_await vmm.restore(clone, {}, Wake::running));
        EXPECT_EQ(co_await connect_and_ask(*woken, "check 4 1"), "same");
        EXPECT_EQ((co_await woken->memory_numbers()).error().code, Errc::unsupported);
        must(co_await machine->kill(0s));
        must(co_await woken->kill(0s));
    });
}

TEST_F(RealMachineTest, ItsDevicesAreLimitedAndCounted) {
    run([this](vmm::Vmm& vmm) -> Awaitable<void> {
        auto spec = machine_in("a");
        spec.disk_limit = {.bytes_per_second = 1'000'000, .operations_per_second = 100};
        spec.balloon = MiB{8};
        const auto machine = co_await booted(vmm, spec);
        const auto first = must(co_await machine->device_numbers());
        EXPECT_GT(first.vcpu_exits.value_or(0), 0U);
        EXPECT_EQ(first.seccomp_faults, 0U);
        EXPECT_EQ(co_await connect_and_ask(*machine, "hello"), "echo hello");
        const auto second = must(co_await machine->device_numbers());
        EXPECT_GT(second.vcpu_exits.value_or(0), first.vcpu_exits.value_or(0));
        EXPECT_GT(second.vsock_sent_bytes.value_or(0), first.vsock_sent_bytes.value_or(0));

        must(co_await machine->memory_numbers());
        must(co_await machine->set_balloon(MiB{16}));
        EXPECT_EQ((co_await machine->set_balloon(memory_size)).error().code, Errc::invalid);
        // Paused, too, and what is woken gets its own limit before it runs.
        must(co_await machine->pause());
        must(co_await machine->set_balloon(MiB{0}));
        must(co_await machine->set_disk_limit({}));
        must(co_await machine->save({}, SnapshotKind::full));
        auto clone = clone_of(spec, "clone", {});
        clone.disk_limit = spec.disk_limit;
        const auto woken = must(co_await vmm.restore(clone, {}, Wake::running));
        EXPECT_EQ(co_await connect_and_ask(*woken, "hello"), "echo hello");
        const auto counted = must(co_await woken->device_numbers());
        EXPECT_GT(counted.vcpu_exits.value_or(0), 0U);
        must(co_await machine->kill(0s));
        must(co_await woken->kill(0s));
    });
}

TEST_F(RealMachineTest, RefusesABrokenSnapshotAndLeavesNoProcess) {
    run([this](vmm::Vmm& vmm) -> Awaitable<void> {
        const auto spec = machine_in("a");
        std::ofstream{spec.directory / "memory.snap"} << "short";
        std::ofstream{spec.directory / "vmstate.snap"} << "nonsense";
        const auto woken = co_await vmm.restore(spec, {}, Wake::running);
        const std::string refusal = woken ? "" : woken.error().what;
        EXPECT_THAT(refusal, HasSubstr("/snapshot/load"));
        // A FIFO that nobody reads cannot be opened for writing.
        const auto console = open_file(spec.directory / "console.in", O_WRONLY | O_NONBLOCK);
        EXPECT_FALSE(console) << "a Firecracker still runs";
    });
}

TEST_F(RealMachineTest, IsTakenOverByAnotherOwner) {
    run([this](vmm::Vmm& vmm) -> Awaitable<void> {
        const auto spec = machine_in("a");
        ProcessIdentity identity;
        {
            const auto machine = co_await booted(vmm, spec);
            identity = machine->identity();
        }
        const auto machine = must(co_await vmm.adopt(spec, identity));
        EXPECT_EQ(co_await connect_and_ask(*machine, "say after the change"), "said");
        co_await console_until(*machine, "after the change");
        EXPECT_EQ((co_await machine->resume()).error().code, Errc::conflict);
        must(co_await machine->pause());
        const auto twin = must(co_await vmm.adopt(spec, identity));
        must(co_await twin->save({}, SnapshotKind::full));
        must(co_await twin->resume());
        EXPECT_EQ(co_await connect_and_ask(*twin, "hello"), "echo hello");
        must(co_await twin->kill(5s));
        EXPECT_EQ((co_await twin->exited()).how, How::killed);
        EXPECT_EQ((co_await vmm.adopt(spec, identity)).error().code, Errc::not_found);
    });
}

}  // namespace
}  // namespace noid::firecracker
