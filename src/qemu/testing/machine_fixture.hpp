#pragma once

#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/thread_pool.hpp>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/async.hpp"
#include "base/temporary_directory.hpp"
#include "privileged/local_warden.hpp"
#include "qemu/qemu.hpp"
#include "vmm/vmm.hpp"

namespace noid::qemu {

// Tests with a real QEMU and a real guest, whose only program is machine_probe. They need the kernel that
// scripts/guest/build-kernel makes in the directory NOID_TEST_IMAGES, and are skipped without.
class MachineTest : public testing::Test {
  protected:
    static constexpr auto qemu_program = "qemu-system-x86_64";

    static void SetUpTestSuite();
    static void TearDownTestSuite();
    void SetUp() override;
    void TearDown() override;

    // Runs a test's coroutine to its end; it fails when it takes longer than 250 s.
    void run(const std::function<Awaitable<void>()>& body);

    // A VM's directory with a disk, and what to start in it.
    vmm::MachineSpec machine_in(const std::string& name);
    // Hard-links and copies a saved machine's files, as the server does, into another VM's directory.
    vmm::MachineSpec clone_of(const vmm::MachineSpec& source, const std::string& name,
                              const std::string& memory = "memory.snap",
                              const std::string& state = "vmstate.snap");

    // Named, because g++ 12 destroys an aggregate made inside a co_await expression twice.
    const Options options_{.warden = std::move(*privileged::LocalWarden::open({.qemu = qemu_program}))};
    const vmm::SnapshotFiles files_;
    asio::io_context loop_;
    asio::thread_pool pool_{2};
    std::optional<Result<TemporaryDirectory>> directory_;

  private:
    static std::optional<TemporaryDirectory> shared_;
    static std::filesystem::path kernel_;
    static std::filesystem::path initrd_;
    static std::string reason_to_skip_;
};

// The line-wise conversation with machine_probe.
class Probe {
  public:
    // Connects to the agent's port and waits until the probe answers there.
    static Awaitable<Probe> connect(vmm::Machine& machine);
    // Sends a line, gives the answer; the test fails when there is none within 60 s.
    Awaitable<std::string> ask(std::string line);

  private:
    explicit Probe(asio::local::stream_protocol::socket socket)
        : socket_{std::make_unique<asio::local::stream_protocol::socket>(std::move(socket))} {}

    std::unique_ptr<asio::local::stream_protocol::socket> socket_;
    std::string buffer_;
};

// Reads the console until `text` has come; gives all that was read.
Awaitable<std::string> console_until(vmm::Machine& machine, std::string text);

}  // namespace noid::qemu
