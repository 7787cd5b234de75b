// Files, directories, connections and questions, answered by a real agent.
#include <sys/stat.h>

#include <array>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/write.hpp>
#include <filesystem>
#include <fstream>

#include "base/file.hpp"
#include "channel/testing/channel_fixture.hpp"

namespace noid::channel {
namespace {

using namespace testing;
using namespace std::chrono_literals;
namespace fs = std::filesystem;

class TransferTest : public ChannelTest {
  protected:
    void SetUp() override {
        if (agent_.is_in_guest()) GTEST_SKIP() << "looks at the agent's machine from outside";
    }
    [[nodiscard]] std::string in_directory(const std::string& name) const {
        return agent_.directory() / name;
    }
    void put(const std::string& name, std::string_view content) const {
        std::ofstream{in_directory(name), std::ios::binary} << content;
    }
    [[nodiscard]] std::string get(const std::string& name) const {
        return read_file(in_directory(name), std::size_t{1} << 30).value_or("(no such file)");
    }
};

constexpr std::array<std::size_t, 4> sizes{0, 1, 65536, 40'000'001};

// Functions, not braces in the tests: g++ 12 destroys aggregates twice that are made inside a co_await.
proto::SessionSpec transfer(proto::Operation operation) {
    return {.operation = std::move(operation), .label = {}};
}
proto::SessionSpec file_read(std::string path, std::uint64_t offset = 0) {
    return transfer(proto::FileRead{.path = std::move(path), .offset = offset});
}
proto::SessionSpec file_write(std::string path, std::uint32_t mode = 0644, bool make_parents = false) {
    return transfer(
        proto::FileWrite{.path = std::move(path), .mode = mode, .user = {}, .make_parents = make_parents});
}
proto::SessionSpec tar_read(std::string path) {
    return transfer(proto::TarRead{std::move(path)});
}
proto::SessionSpec tar_write(std::string path) {
    return transfer(proto::TarWrite{.path = std::move(path), .user = {}});
}
proto::SessionSpec connection_to(std::uint16_t port) {
    return transfer(proto::TcpConnect{.port = port});
}

std::string bytes_of_all_kinds(std::size_t count) {
    std::string bytes(count, '\0');
    for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<char>((i * 2654435761U) >> 9);
    return bytes;
}

TEST_F(TransferTest, WritesFilesOfAnySize) {
    run([&]() -> Awaitable<void> {
        for (const std::size_t size : sizes) {
            const auto content = bytes_of_all_kinds(size);
            const auto done = co_await finish(file_write(in_directory("file"), 0640), content);
            EXPECT_EQ(done.ending(), "exited 0");
            EXPECT_TRUE(get("file") == content) << size;
        }
        struct stat info {};
        EXPECT_EQ(::stat(in_directory("file").c_str(), &info), 0);
        EXPECT_EQ(info.st_mode & 07777, 0640U);
    });
}

TEST_F(TransferTest, ReadsFilesOfAnySize) {
    run([&]() -> Awaitable<void> {
        for (const std::size_t size : sizes) {
            const auto content = bytes_of_all_kinds(size);
            put("file", content);
            const auto done = co_await finish(file_read(in_directory("file")));
            EXPECT_EQ(done.ending(), "exited 0");
            EXPECT_TRUE(done.out == content) << size;
            EXPECT_TRUE(done.opened.file && done.opened.file->size == size);
        }
        put("file", "0123456789");
        EXPECT_EQ((co_await finish(file_read(in_directory("file"), 7))).out, "789");
    });
}

TEST_F(TransferTest, SaysWhyAFileCannotBeRead) {
    run([&]() -> Awaitable<void> {
        auto done = co_await finish(file_read("/nowhere/file"));
        EXPECT_EQ(done.ending(), "failed: /nowhere/file: No such file or directory");
        EXPECT_EQ(done.end.errc, static_cast<std::uint8_t>(Errc::not_found));
        done = co_await finish(file_read("/etc"));
        EXPECT_EQ(done.ending(), "failed: '/etc' is a directory");
        done = co_await finish(file_read("etc/passwd"));
        EXPECT_EQ(done.ending(), "failed: 'etc/passwd' is not absolute");
    });
}

TEST_F(TransferTest, WriteIsWholeOrNotThere) {
    run([&]() -> Awaitable<void> {
        put("file", "old");
        auto session = must(co_await channel_->open(file_write(in_directory("file"))));
        must(co_await session->write("new"));
        while (session->input_taken() < 3) must(co_await session->input_taken_beyond(session->input_taken()));
        EXPECT_EQ(get("file"), "old");
        session->cancel();
        while (!must(co_await channel_->sessions()).empty()) must(co_await channel_->ping());
        EXPECT_EQ(get("file"), "old");
        const auto names =
            std::distance(fs::directory_iterator{agent_.directory()}, fs::directory_iterator{});
        EXPECT_EQ(names, 2) << "the file and the agent's socket";
    });
}

TEST_F(TransferTest, WritesThroughALinkAndMakesParents) {
    run([&]() -> Awaitable<void> {
        put("target", "old");
        fs::create_symlink("target", in_directory("link"));
        EXPECT_EQ((co_await finish(file_write(in_directory("link")), "new")).ending(), "exited 0");
        EXPECT_TRUE(fs::is_symlink(in_directory("link")));
        EXPECT_EQ(get("target"), "new");

        const auto deep = in_directory("a/b/c");
        EXPECT_TRUE((co_await finish(file_write(deep), "x")).ending().starts_with("failed: "));
        EXPECT_EQ((co_await finish(file_write(deep, 0644, true), "x")).ending(), "exited 0");
        EXPECT_EQ(get("a/b/c"), "x");
    });
}

TEST_F(TransferTest, DirectoriesGoThroughAsTar) {
    run([&]() -> Awaitable<void> {
        fs::create_directories(in_directory("tree/empty"));
        const auto large = bytes_of_all_kinds(5'000'000);
        put("tree/large", large);
        fs::create_symlink("large", in_directory("tree/link"));
        const auto packed = co_await finish(tar_read(in_directory("tree")));
        EXPECT_EQ(packed.ending(), "exited 0") << packed.err;
        const auto unpacked = co_await finish(tar_write(in_directory("copy/of/it")), packed.out);
        EXPECT_EQ(unpacked.ending(), "exited 0") << unpacked.err;
        EXPECT_TRUE(get("copy/of/it/large") == large);
        EXPECT_TRUE(fs::is_directory(in_directory("copy/of/it/empty")));
        EXPECT_EQ(fs::read_symlink(in_directory("copy/of/it/link")), "large");
    });
}

TEST_F(TransferTest, ForwardsConnections) {
    run([&]() -> Awaitable<void> {
        using asio::ip::tcp;
        tcp::acceptor acceptor{loop_, {asio::ip::address_v4::loopback(), 0}};
        const std::uint16_t port = acceptor.local_endpoint().port();
        const auto serve = [](tcp::acceptor& from) -> Awaitable<void> {
            tcp::socket client = co_await from.async_accept(asio::use_awaitable);
            std::string all;
            std::array<char, 65536> buffer;
            boost::system::error_code error;
            while (!error) {
                const auto got = co_await client.async_read_some(
                    asio::buffer(buffer), asio::redirect_error(asio::use_awaitable, error));
                all.append(buffer.data(), got);
            }
            // The client's half is closed; the other direction is not.
            co_await asio::async_write(client, asio::buffer(all), asio::use_awaitable);
        };
        beside(serve(acceptor));
        const auto bytes = bytes_of_all_kinds(3'000'000);
        const auto done = co_await finish(connection_to(port), bytes);
        EXPECT_EQ(done.ending(), "exited 0");
        EXPECT_TRUE(done.out == bytes);

        acceptor.close();
        const auto refused = co_await finish(connection_to(port));
        EXPECT_EQ(refused.ending(),
                  "failed: connect to 127.0.0.1:" + std::to_string(port) + ": Connection refused");
        EXPECT_EQ(refused.end.errc, static_cast<std::uint8_t>(Errc::unavailable));
    });
}

TEST_F(TransferTest, AnswersQuestions) {
    run([&]() -> Awaitable<void> {
        const auto info = must(co_await channel_->ready(10s));
        EXPECT_EQ(info.protocol, proto::protocol_version);
        EXPECT_FALSE(info.version.empty());
        EXPECT_FALSE(info.kernel.empty());
        must(co_await channel_->ping());
        const auto stats = must(co_await channel_->stats());
        EXPECT_GT(stats.memory_total, stats.memory_available);
        EXPECT_GT(stats.memory_available, 0U);
        EXPECT_GT(stats.disk_total, 0U);
        EXPECT_GT(stats.cpu_total_ticks, stats.cpu_busy_ticks);
        EXPECT_GT(stats.processes, 0U);
        EXPECT_FALSE(co_await channel_->shut_down()) << "this machine is not the agent's";
    });
}

TEST_F(TransferTest, IdentityEndsSessionsAndGivesAnEnvironment) {
    run([&]() -> Awaitable<void> {
        auto session = must(co_await channel_->open(shell("echo ready; sleep 100")));
        co_await read_some(*session, 6);
        proto::Identity identity;
        identity.end_sessions = true;
        identity.env.emplace_back("FROM_IDENTITY=yes");
        auto renewing = channel_->renew_identity(identity, 10s);
        must(co_await std::move(renewing));
        const auto ended = co_await session->next();
        EXPECT_FALSE(ended);
        if (!ended) {
            EXPECT_EQ(ended.error().code, Errc::not_found);
        }
        const auto done = co_await finish(shell("echo $FROM_IDENTITY"));
        EXPECT_EQ(done.out, "yes\n") << done.ending();
        channel_->reconnect();
        EXPECT_EQ(must(co_await channel_->ready(10s)).generation, 1U);
    });
}

}  // namespace
}  // namespace noid::channel
