#include "firecracker/machine.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/read.hpp>
#include <filesystem>
#include <fstream>

#include "base/file.hpp"
#include "base/temporary_directory.hpp"
#include "firecracker/scripted_peer.hpp"
#include "privileged/local_warden.hpp"

namespace noid::firecracker {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

// A machine whose process is a shell script and whose API is a scripted peer.
class MachineTest : public testing::Test {
  protected:
    std::unique_ptr<Machine> machine(std::string script) {
        launcher::ProcessSpec spec;
        spec.program = "/bin/sh";
        spec.arguments = {"-c", std::move(script)};
        spec.directory = home_.path();
        auto stdio = StdioFifos::create(loop_.get_executor(), directory_, spec.descriptors);
        EXPECT_TRUE(stdio) << stdio.error().full();
        auto launched = launcher::launch(spec);
        EXPECT_TRUE(launched) << launched.error().full();
        return std::make_unique<Machine>(Machine::Parts{
            .pool = pool_,
            .warden = warden_,
            .directory = std::move(*open_directory(home_.path())),
            .memory = MiB{1},
            .features = features_,
            .process = launcher::Process{loop_.get_executor(), std::move(*launched)},
            .stdio = std::move(*stdio),
        });
    }
    void write(const std::string& name, std::size_t size) {
        std::ofstream{home_.path() / name} << std::string(size, 'x');
    }

    const vmm::SnapshotFiles files_;
    Features features_{.bare_pause = true};
    asio::io_context loop_;
    asio::thread_pool pool_{1};
    std::shared_ptr<vmm::Warden> warden_ = std::move(*privileged::LocalWarden::open({}));
    TemporaryDirectory home_ = std::move(*TemporaryDirectory::create());
    Fd directory_ = std::move(*open_directory(home_.path()));
};

TEST_F(MachineTest, IsReadyWhenTheApiAnswers) {
    ScriptedPeer peer{loop_, directory_, api_socket, "\r\n\r\n", {instance("Not started")}};
    auto vm = machine("echo 'Listening on API socket' >&2; exec sleep 60");
    auto body = [&]() -> Awaitable<void> {
        EXPECT_TRUE(co_await vm->api_ready());
        EXPECT_TRUE(co_await vm->kill(10s));
    };
    run(loop_, body());
}

TEST_F(MachineTest, AProcessThatEndsInsteadSaysWhy) {
    auto vm = machine("echo 'Cannot open /dev/kvm' >&2; exit 1");
    auto body = [&]() -> Awaitable<void> {
        const auto ready = co_await vm->api_ready();
        EXPECT_EQ(ready.error().code, Errc::unavailable);
        EXPECT_THAT(ready.error().what, HasSubstr("Cannot open /dev/kvm"));
        const auto exit = co_await vm->exited();
        EXPECT_EQ(exit.how, vmm::Exit::How::crashed);
        EXPECT_THAT(exit.detail, HasSubstr("status 1; its last words: Cannot open /dev/kvm"));
    };
    run(loop_, body());
}

TEST_F(MachineTest, TheConsoleGoesBothWays) {
    // The shell cannot wait on the end that does not block, so it opens one of its own.
    auto vm = machine("read line <console.in; echo \"guest got $line\"");
    auto body = [&]() -> Awaitable<void> {
        EXPECT_TRUE(co_await vm->write_console("hello\n"));
        EXPECT_EQ(co_await vm->read_console(), "guest got hello\n");
        EXPECT_EQ((co_await vm->exited()).how, vmm::Exit::How::guest_shutdown);
        const auto end = co_await vm->read_console();
        EXPECT_EQ(end.error().code, Errc::unavailable);
    };
    run(loop_, body());
}

TEST_F(MachineTest, PauseAndResumeKnowTheState) {
    ScriptedPeer peer{
        loop_, directory_, api_socket, "\r\n\r\n", {instance("Running"), no_content, no_content}};
    auto vm = machine("exec sleep 60");
    auto body = [&]() -> Awaitable<void> {
        EXPECT_TRUE(co_await vm->pause());
        const auto again = co_await vm->pause();
        EXPECT_EQ(again.error().code, Errc::conflict);
        EXPECT_TRUE(co_await vm->resume());
        const auto twice = co_await vm->resume();
        EXPECT_EQ(twice.error().code, Errc::conflict);
        EXPECT_TRUE(co_await vm->kill(10s));
        EXPECT_EQ((co_await vm->exited()).how, vmm::Exit::How::killed);
    };
    run(loop_, body());
    EXPECT_EQ(peer.requests.size(), 3u);
}

// As Firecracker 1.16.1 says to a snapshot whose memory has no file.
const auto memory_is_a_directory = bad_request(
    R"json({"fault_message":"Create snapshot error: Cannot perform open on the memory backing file: )json"
    R"json(Is a directory (os error 21)"})json");

TEST_F(MachineTest, ABarePauseEndsWithHalfASnapshotWhereTheVsockNeedsIt) {
    features_.bare_pause = false;
    ScriptedPeer peer{
        loop_,
        directory_,
        api_socket,
        "\r\n\r\n",
        {instance("Running"), no_content, memory_is_a_directory, instance("Paused"), no_content}};
    peer.before_answer = [&](const std::string& request) {
        if (request.starts_with("PUT /snapshot/create ")) write("pause.state", 10);
    };
    auto vm = machine("exec sleep 60");
    auto body = [&]() -> Awaitable<void> {
        EXPECT_TRUE(co_await vm->pause());
        EXPECT_TRUE(co_await vm->resume());
        EXPECT_TRUE(co_await vm->kill(10s));
    };
    run(loop_, body());
    EXPECT_EQ(peer.requests.size(), 5u);
    EXPECT_FALSE(std::filesystem::exists(home_.path() / "pause.state"));
}

TEST_F(MachineTest, StaysPausedWhenTheVsockCannotBeReset) {
    features_.bare_pause = false;
    ScriptedPeer peer{loop_,
                      directory_,
                      api_socket,
                      "\r\n\r\n",
                      {instance("Running"), no_content, bad_request(R"({"fault_message":"no space"})")}};
    auto vm = machine("exec sleep 60");
    auto body = [&]() -> Awaitable<void> {
        EXPECT_TRUE(co_await vm->pause());
        const auto resumed = co_await vm->resume();
        EXPECT_THAT(resumed.error().what, HasSubstr("no space"));
        EXPECT_TRUE(co_await vm->kill(10s));
    };
    run(loop_, body());
    EXPECT_EQ(peer.requests.size(), 3u);
}

TEST_F(MachineTest, ASaveMakesThatUnnecessary) {
    features_.bare_pause = false;
    ScriptedPeer peer{
        loop_, directory_, api_socket, "\r\n\r\n", {instance("Running"), no_content, no_content, no_content}};
    auto vm = machine("exec sleep 60");
    auto body = [&]() -> Awaitable<void> {
        EXPECT_TRUE(co_await vm->pause());
        EXPECT_TRUE(co_await vm->save(files_, vmm::SnapshotKind::full));
        EXPECT_TRUE(co_await vm->resume());
        EXPECT_TRUE(co_await vm->kill(10s));
    };
    run(loop_, body());
    EXPECT_EQ(peer.requests.size(), 4u);
}

TEST_F(MachineTest, AsksForTheStateAfterARefusal) {
    ScriptedPeer peer{
        loop_,
        directory_,
        api_socket,
        "\r\n\r\n",
        {instance("Running"),
         bad_request(
             R"({"fault_message":"The requested operation is not supported before starting the microVM."})"),
         instance("Paused"), no_content}};
    auto vm = machine("exec sleep 60");
    auto body = [&]() -> Awaitable<void> {
        const auto refused = co_await vm->pause();
        EXPECT_THAT(refused.error().what, HasSubstr("not supported before starting"));
        EXPECT_TRUE(co_await vm->resume());
        EXPECT_TRUE(co_await vm->kill(10s));
    };
    run(loop_, body());
}

TEST_F(MachineTest, AFullSaveNeverWritesIntoWhatOthersMap) {
    ScriptedPeer peer{
        loop_, directory_, api_socket, "\r\n\r\n", {instance("Paused"), no_content, no_content}};
    write("template", 10);
    std::filesystem::create_hard_link(home_.path() / "template", home_.path() / "memory.snap");
    auto vm = machine("exec sleep 60");
    auto body = [&]() -> Awaitable<void> {
        // Unnamed on purpose: as an aggregate it was destroyed twice.
        EXPECT_TRUE(co_await vm->save({}, vmm::SnapshotKind::full));
        EXPECT_TRUE(co_await vm->save({"memory.snap", "vmstate.snap"}, vmm::SnapshotKind::full));
        EXPECT_TRUE(co_await vm->kill(10s));
    };
    run(loop_, body());
    // What Firecracker was to write to is a new file.
    EXPECT_EQ(std::filesystem::hard_link_count(home_.path() / "memory.snap"), 1U);
    EXPECT_EQ(std::filesystem::file_size(home_.path() / "memory.snap"), 0U);
    EXPECT_EQ(std::filesystem::file_size(home_.path() / "template"), 10U);
}

TEST_F(MachineTest, AnIncrementalSaveNeedsACloneOfItsOwn) {
    ScriptedPeer peer{loop_, directory_, api_socket, "\r\n\r\n", {instance("Paused"), no_content}};
    auto vm = machine("exec sleep 60");
    auto body = [&]() -> Awaitable<void> {
        const auto missing = co_await vm->save(files_, vmm::SnapshotKind::incremental);
        EXPECT_EQ(missing.error().code, Errc::not_found);
        write("memory.snap", 4096);
        const auto short_clone = co_await vm->save(files_, vmm::SnapshotKind::incremental);
        EXPECT_EQ(short_clone.error().code, Errc::corrupt);
        write("memory.snap", 1 << 20);
        EXPECT_TRUE(co_await vm->save(files_, vmm::SnapshotKind::incremental));
        std::filesystem::create_hard_link(home_.path() / "memory.snap", home_.path() / "other");
        const auto shared = co_await vm->save(files_, vmm::SnapshotKind::incremental);
        EXPECT_EQ(shared.error().code, Errc::conflict);
        EXPECT_TRUE(co_await vm->kill(10s));
    };
    run(loop_, body());
}

TEST_F(MachineTest, OnlyAPausedMachineIsSaved) {
    ScriptedPeer peer{loop_, directory_, api_socket, "\r\n\r\n", {instance("Running")}};
    auto vm = machine("exec sleep 60");
    auto body = [&]() -> Awaitable<void> {
        const auto saved = co_await vm->save(files_, vmm::SnapshotKind::full);
        EXPECT_EQ(saved.error().code, Errc::conflict);
        EXPECT_TRUE(co_await vm->kill(10s));
    };
    run(loop_, body());
}

TEST_F(MachineTest, TheAgentsBytesBeginAfterTheGreeting) {
    ScriptedPeer peer{loop_, directory_, vsock_socket, "\n", {"OK 1073741824\nagent"}};
    auto vm = machine("exec sleep 60");
    auto body = [&]() -> Awaitable<void> {
        auto socket = co_await vm->connect_agent();
        EXPECT_TRUE(socket);
        if (!socket) co_return;
        std::string first(5, '\0');
        co_await asio::async_read(*socket, asio::buffer(first), asio::use_awaitable);
        EXPECT_EQ(first, "agent");
        EXPECT_TRUE(co_await vm->kill(10s));
    };
    run(loop_, body());
    EXPECT_THAT(peer.requests, testing::ElementsAre("CONNECT 1024\n"));
}

TEST_F(MachineTest, AnAgentThatDoesNotListenIsUnavailable) {
    ScriptedPeer peer{loop_, directory_, vsock_socket, "\n", {}};
    auto vm = machine("exec sleep 60");
    auto body = [&]() -> Awaitable<void> {
        const auto socket = co_await vm->connect_agent();
        EXPECT_EQ(socket.error().code, Errc::unavailable);
        EXPECT_TRUE(co_await vm->kill(10s));
    };
    run(loop_, body());
}

}  // namespace
}  // namespace noid::firecracker
