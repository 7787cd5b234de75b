#include "privileged/service.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>
#include <boost/asio/io_context.hpp>
#include <csignal>
#include <functional>
#include <semaphore>
#include <thread>

#include "base/file.hpp"
#include "base/temporary_directory.hpp"
#include "base/unix_socket.hpp"
#include "launcher/process.hpp"
#include "privileged/remote_warden.hpp"

namespace noid::privileged {
namespace {

using namespace std::chrono_literals;

// Starts shells in the place of VMMs.
class ShellWarden final : public vmm::Warden {
  public:
    [[nodiscard]] bool confines() const noexcept override { return true; }
    [[nodiscard]] Result<launcher::Launched> start(vmm::ProcessRequest request) override {
        kernel = request.spec.kernel;
        launcher::ProcessSpec spec;
        spec.program = "/bin/sh";
        spec.arguments = {"-c", request.spec.kernel_arguments};
        spec.descriptors = std::move(request.descriptors);
        return launcher::launch(spec);
    }
    [[nodiscard]] Result<launcher::Launched> adopt(const ProcessIdentity& process,
                                                   const std::filesystem::path& /*directory*/) override {
        auto pidfd = open_process(process);
        if (!pidfd) return fail(std::move(pidfd.error()));
        return launcher::Launched{.identity = process, .pidfd = std::move(*pidfd)};
    }
    [[nodiscard]] Result<vmm::ProcessFiles> files_of(const ProcessIdentity& process) override {
        vmm::ProcessFiles files;
        files.bytes_written = 17;
        for (Fd* each : {&files.memory, &files.pagemap, &files.maps, &files.smaps_rollup})
            *each = std::move(*open_file("/proc/" + std::to_string(process.pid) + "/stat", O_RDONLY));
        return files;
    }
    [[nodiscard]] Result<std::vector<vmm::WorkingProcess>> processes() override {
        return std::vector<vmm::WorkingProcess>{{{5, 6}, 7, 8}, {{9, 10}, 11, 12}};
    }
    [[nodiscard]] Result<vmm::Reclaimed> reclaim(const std::filesystem::path& directory) override {
        if (directory != "/data/a") return fail(Errc::forbidden, "not the server's");
        return parts++ == 0 ? vmm::Reclaimed::a_part : vmm::Reclaimed::all;
    }
    [[nodiscard]] const vmm::HostDevices& devices() const noexcept override { return devices_; }
    void get_ready() override { made_ready.release(); }
    std::filesystem::path kernel;
    std::counting_semaphore<> made_ready{0};
    int parts = 0;  // how often it was asked to reclaim

  private:
    vmm::HostDevices devices_;
};

class ServiceTest : public testing::Test {
  protected:
    void SetUp() override {
        std::array<int, 2> ends{};
        ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()), 0);
        auto shells = std::make_unique<ShellWarden>();
        shells_ = shells.get();
        service_ = std::make_unique<Service>(Fd{ends[1]}, std::move(shells),
                                             Configured{"/kernel", "/initrd", home_.path() / "netd.sock"});
        thread_ = std::jthread{[this] { service_->run(); }};
        raw_ = Fd{::fcntl(ends[0], F_DUPFD_CLOEXEC, 3)};
        warden_ = std::make_shared<RemoteWarden>(Fd{ends[0]}, vmm::HostDevices{});
    }
    void TearDown() override {
        warden_.reset();
        raw_.reset();
        thread_.join();  // it ends because nobody is at the other end
    }
    Result<launcher::Launched> start(const std::string& script) {
        vmm::ProcessRequest request;
        request.spec.id = "a";
        request.spec.directory = "/data/a";
        request.spec.kernel_arguments = script;
        request.spec.kernel = "/etc/shadow";
        return warden_->start(std::move(request));
    }
    static void run(const std::function<Awaitable<void>(asio::any_io_executor)>& body) {
        asio::io_context loop;
        std::exception_ptr thrown;
        asio::co_spawn(loop, body(loop.get_executor()), [&](std::exception_ptr e) { thrown = e; });
        loop.run();
        if (thrown) std::rethrow_exception(thrown);
    }

    TemporaryDirectory home_ = std::move(*TemporaryDirectory::create());
    ShellWarden* shells_ = nullptr;
    std::unique_ptr<Service> service_;
    std::jthread thread_;
    Fd raw_;  // the server's end once more, for what a RemoteWarden never says
    std::shared_ptr<RemoteWarden> warden_;
};

TEST_F(ServiceTest, TellsHowItsChildrenEnd) {
    run([&](asio::any_io_executor executor) -> Awaitable<void> {
        auto good = start("exit 7");
        auto bad = start("kill -SEGV $$");
        EXPECT_TRUE(good && bad);
        if (!good || !bad) co_return;
        launcher::Process first{executor, std::move(*good)};
        launcher::Process second{executor, std::move(*bad)};
        EXPECT_EQ(co_await first.exited(), (launcher::ExitStatus{launcher::ExitStatus::How::exited, 7}));
        EXPECT_EQ(co_await second.exited(),
                  (launcher::ExitStatus{launcher::ExitStatus::How::signalled, SIGSEGV}));
    });
    EXPECT_EQ(shells_->kernel, "/kernel");
}

TEST_F(ServiceTest, GetsReadyForTheNextOneWhenItIsQuiet) {
    EXPECT_TRUE(shells_->made_ready.try_acquire_for(30s));
    const auto launched = start("exec sleep 60");
    ASSERT_TRUE(launched);
    EXPECT_TRUE(shells_->made_ready.try_acquire_for(30s));
    EXPECT_FALSE(shells_->made_ready.try_acquire_for(1s)) << "once is enough";
    EXPECT_TRUE(launched->signal(SIGKILL));
}

TEST_F(ServiceTest, SignalsByHandle) {
    run([&](asio::any_io_executor executor) -> Awaitable<void> {
        auto launched = start("exec sleep 60");
        EXPECT_TRUE(launched);
        if (!launched) co_return;
        launcher::Process process{executor, std::move(*launched)};
        const auto ended = co_await process.stop(10s);
        EXPECT_TRUE(ended);
        if (!ended) co_return;
        EXPECT_EQ(*ended, (launcher::ExitStatus{launcher::ExitStatus::How::signalled, SIGTERM}));
    });
}

TEST_F(ServiceTest, HasFilesOfWhatItLooksAfterOnly) {
    const auto launched = start("exec sleep 60");
    ASSERT_TRUE(launched);
    const auto files = warden_->files_of(launched->identity);
    ASSERT_TRUE(files);
    EXPECT_TRUE(files->memory && files->smaps_rollup && !files->output);
    EXPECT_EQ(files->bytes_written, 17U);
    EXPECT_FALSE(warden_->files_of({1, 0}));
    ASSERT_TRUE(send_packet(raw_, encode(FilesRequest{4711}), {}));
    EXPECT_EQ(Reader{receive_packet(raw_)->bytes}.number(), 0U);
    EXPECT_TRUE(launched->signal(SIGKILL));
}

TEST_F(ServiceTest, RefusesWhatIsNoRequestAndGoesOn) {
    for (const std::string& bytes :
         {std::string{"x"}, std::string(max_packet_bytes, '\xff'), Writer{}.number(99).take()}) {
        ASSERT_TRUE(send_packet(raw_, bytes, {}));
        const auto answer = receive_packet(raw_);
        ASSERT_TRUE(answer);
        EXPECT_EQ(Reader{answer->bytes}.number(), 0U);
    }
    // To a handle that nobody has; it is not answered, and harms nobody.
    ASSERT_TRUE(send_packet(raw_, encode(SignalRequest{4711, SIGKILL}), {}));
    const auto found = warden_->processes();
    ASSERT_TRUE(found);
    ASSERT_EQ(found->size(), 2U);
    EXPECT_EQ((*found)[1].identity, (ProcessIdentity{9, 10}));
    EXPECT_EQ((*found)[1].inode, 12U);
}

TEST_F(ServiceTest, ConnectsToTheConfiguredNetworkDaemon) {
    EXPECT_EQ(warden_->connect_to_network().error().code, Errc::not_found);
    const auto listener = listen_unix_at(*open_directory(home_.path()), "netd.sock", 1);
    ASSERT_TRUE(listener);
    const auto connection = warden_->connect_to_network();
    ASSERT_TRUE(connection) << connection.error().full();
    const Fd accepted{::accept4(listener->get(), nullptr, nullptr, SOCK_CLOEXEC)};
    ASSERT_TRUE(accepted);
    ASSERT_TRUE(write_all(*connection, "x"));
    char byte = 0;
    EXPECT_EQ(::read(accepted.get(), &byte, 1), 1);
}

TEST_F(ServiceTest, TellsWhetherThereIsMoreToReclaim) {
    EXPECT_EQ(warden_->reclaim("/data/a"), vmm::Reclaimed::a_part);
    EXPECT_EQ(warden_->reclaim("/data/a"), vmm::Reclaimed::all);
    const auto refused = warden_->reclaim("/data/b");
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::forbidden);
}

TEST_F(ServiceTest, ErrorsArriveAsTheyAre) {
    const auto gone = warden_->adopt({::getpid(), 1}, "/data/a");
    ASSERT_FALSE(gone);
    EXPECT_EQ(gone.error().code, Errc::not_found);
    EXPECT_THAT(gone.error().what, testing::HasSubstr("is gone"));
}

}  // namespace
}  // namespace noid::privileged
