#include "qemu/testing/machine_fixture.hpp"

#include <signal.h>
#include <sys/wait.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/write.hpp>
#include <boost/json/parse.hpp>
#include <cstdlib>
#include <fstream>

#include "base/file.hpp"
#include "launcher/launcher.hpp"

namespace noid::qemu {

using namespace std::chrono_literals;

std::optional<TemporaryDirectory> MachineTest::shared_;
std::filesystem::path MachineTest::kernel_;
std::filesystem::path MachineTest::initrd_;
std::string MachineTest::reason_to_skip_;

namespace {

// The initrd that the product uses, with the probe in the agent's place.
bool build_initrd(const std::string& modules, const std::filesystem::path& out) {
    launcher::ProcessSpec spec;
    spec.program = NOID_SOURCE_DIR "/scripts/guest/build-initrd";
    spec.arguments = {"--agent", NOID_MACHINE_PROBE, "--modules", modules, "--out", out.string()};
    spec.environment = {"PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"};
    const auto child = launcher::launch(spec);
    if (!child) return false;
    siginfo_t info{};
    ::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(child->pidfd.get()), &info, WEXITED);
    return info.si_status == 0;
}

}  // namespace

void MachineTest::SetUpTestSuite() {
    const char* images = std::getenv("NOID_TEST_IMAGES");
    if (images == nullptr) {
        reason_to_skip_ = "NOID_TEST_IMAGES names no directory with vmlinux and vmlinux.json";
        return;
    }
    kernel_ = std::filesystem::path{images} / "vmlinux";
    const auto record = read_file(std::filesystem::path{images} / "vmlinux.json", 64 * 1024);
    if (!record || !std::filesystem::exists(kernel_)) {
        reason_to_skip_ = std::string{"no kernel in "} + images;
        return;
    }
    auto shared = TemporaryDirectory::create();
    ASSERT_TRUE(shared);
    shared_.emplace(std::move(*shared));
    initrd_ = shared_->path() / "initrd.cpio";
    const auto facts = boost::json::parse(*record).at("facts");
    ASSERT_TRUE(build_initrd(std::string{facts.at("modules").as_string()}, initrd_));
}

void MachineTest::TearDownTestSuite() {
    shared_.reset();
}

void MachineTest::SetUp() {
    if (!reason_to_skip_.empty()) GTEST_SKIP() << reason_to_skip_;
    directory_.emplace(TemporaryDirectory::create());
    ASSERT_TRUE(*directory_);
}

// A test that failed half-way leaves machines behind.
void MachineTest::TearDown() {
    if (!directory_) return;
    for (const auto& process : std::filesystem::directory_iterator{"/proc"}) {
        std::error_code gone;
        const auto place = std::filesystem::read_symlink(process.path() / "cwd", gone);
        if (!gone && place.parent_path() == (*directory_)->path())
            ::kill(std::stoi(process.path().filename().string()), SIGKILL);
    }
}

void MachineTest::run(const std::function<Awaitable<void>()>& body) {
    std::exception_ptr thrown;
    bool finished = false;
    const auto guarded = [&]() -> Awaitable<Result<void>> {
        co_await body();
        co_return Result<void>{};
    };
    asio::co_spawn(loop_, within(250s, guarded()), [&](std::exception_ptr e, Result<void> result) {
        thrown = e;
        finished = result.has_value();
    });
    loop_.run();
    if (thrown) std::rethrow_exception(thrown);
    EXPECT_TRUE(finished) << "the test took too long";
}

vmm::MachineSpec MachineTest::machine_in(const std::string& name) {
    const auto directory = (*directory_)->path() / name;
    std::filesystem::create_directory(directory);
    std::ofstream{directory / "rootfs.ext4"};
    std::filesystem::resize_file(directory / "rootfs.ext4", 1 << 20);
    vmm::MachineSpec spec;
    spec.id = name;
    spec.directory = directory;
    spec.memory = MiB{128};
    spec.kernel = kernel_;
    spec.initrd = initrd_;
    return spec;
}

vmm::MachineSpec MachineTest::clone_of(const vmm::MachineSpec& source, const std::string& name,
                                       const std::string& memory, const std::string& state) {
    auto spec = machine_in(name);
    std::filesystem::remove(spec.directory / "rootfs.ext4");
    std::filesystem::copy_file(source.directory / "rootfs.ext4", spec.directory / "rootfs.ext4");
    std::filesystem::create_hard_link(source.directory / memory, spec.directory / "memory.snap");
    std::filesystem::create_hard_link(source.directory / state, spec.directory / "vmstate.snap");
    return spec;
}

Awaitable<Probe> Probe::connect(vmm::Machine& machine) {
    auto socket = co_await machine.connect_agent();
    if (!socket) throw std::runtime_error{socket.error().what};
    Probe probe{std::move(*socket)};
    const auto hello = co_await probe.ask("hello");
    EXPECT_EQ(hello, "echo hello");
    co_return std::move(probe);
}

Awaitable<std::string> Probe::ask(std::string line) {
    line += '\n';
    const auto talk = [&]() -> Awaitable<Result<std::string>> {
        co_await asio::async_write(*socket_, asio::buffer(line), asio::use_awaitable);
        const auto length = co_await asio::async_read_until(*socket_, asio::dynamic_buffer(buffer_, 4096),
                                                            '\n', asio::use_awaitable);
        std::string answer = buffer_.substr(0, length - 1);
        buffer_.erase(0, length);
        co_return answer;
    };
    auto answer = co_await within(60s, talk());
    if (!answer) throw std::runtime_error{"the guest does not answer to " + line};
    co_return *answer;
}

Awaitable<std::string> console_until(vmm::Machine& machine, std::string text) {
    std::string all;
    while (all.find(text) == std::string::npos) {
        auto more = co_await machine.read_console();
        if (!more) throw std::runtime_error{"the console ended before '" + text + "': " + all};
        all += *more;
    }
    co_return all;
}

}  // namespace noid::qemu
