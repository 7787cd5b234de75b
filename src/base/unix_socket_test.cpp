#include "base/unix_socket.hpp"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <boost/asio/io_context.hpp>

#include "base/file.hpp"
#include "base/temporary_directory.hpp"

namespace noid {
namespace {

// What connecting gives: the error's code, or nothing.
std::optional<Errc> connect(const Fd& directory, const std::string& name) {
    asio::io_context loop;
    std::optional<Errc> code;
    const auto attempt = [&]() -> Awaitable<void> {
        const auto socket = co_await connect_unix_at(directory, name);
        if (!socket) code = socket.error().code;
    };
    asio::co_spawn(loop, attempt(), [](std::exception_ptr e) { EXPECT_FALSE(e); });
    loop.run();
    return code;
}

TEST(UnixSocket, WorksInADirectoryOfAnyDepth) {
    const auto temporary = TemporaryDirectory::create();
    const auto deep = temporary->path() / std::string(200, 'd') / std::string(200, 'e');
    std::filesystem::create_directories(deep);
    const auto directory = open_directory(deep);
    const auto listener = listen_unix_at(*directory, "a.sock", 4);
    ASSERT_TRUE(listener) << listener.error().what;
    EXPECT_EQ(connect(*directory, "a.sock"), std::nullopt);
    struct stat status {};
    ASSERT_EQ(::stat((deep / "a.sock").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0600U);
}

TEST(UnixSocket, TellsMissingFromDeaf) {
    const auto temporary = TemporaryDirectory::create();
    const auto directory = open_directory(temporary->path());
    EXPECT_EQ(connect(*directory, "a.sock"), Errc::not_found);
    { const auto listener = listen_unix_at(*directory, "a.sock", 4); }
    EXPECT_EQ(connect(*directory, "a.sock"), Errc::unavailable);
    const auto again = listen_unix_at(*directory, "a.sock", 4);
    ASSERT_TRUE(again) << "a socket left behind is replaced";
    EXPECT_EQ(connect(*directory, "a.sock"), std::nullopt);
    EXPECT_EQ(listen_unix_at(*directory, std::string(120, 'x'), 4).error().code, Errc::invalid);
}

}  // namespace
}  // namespace noid
