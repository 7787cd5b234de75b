#include "privileged/passage.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>

#include "base/temporary_directory.hpp"

namespace noid::privileged {
namespace {

namespace fs = std::filesystem;

const ServerUser server{{64'000, 64'000}, {}, "server"};

class PassageTest : public testing::Test {
  protected:
    void SetUp() override {
        if (::geteuid() != 0) GTEST_SKIP() << "needs root";
        ASSERT_EQ(::chmod(home_.path().c_str(), 0755), 0);
        fs::create_directories(closed() / "deep" / "data");
        std::ofstream{closed() / "secret"} << "x";
        std::ofstream{closed() / "image"} << "x";
        std::ofstream{closed() / "deep" / "data" / "own"} << "x";
        ASSERT_EQ(::chown((closed() / "deep" / "data").c_str(), 64'000, 64'000), 0);
        ASSERT_EQ(::chmod(closed().c_str(), 0700), 0);
    }
    [[nodiscard]] fs::path closed() const { return home_.path() / "closed"; }
    // Whether that holds for the server's user, who has got a passage to these.
    [[nodiscard]] static bool holds(const std::vector<fs::path>& places,
                                    const std::function<bool()>& condition) {
        const pid_t child = ::fork();
        if (child == 0) {
            if (!open_passage(places, server) || !become(server)) ::_exit(2);
            ::_exit(condition() ? 0 : 1);
        }
        int status = 0;
        ::waitpid(child, &status, 0);
        EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) < 2);
        return WIFEXITED(status) && WEXITSTATUS(status) == 0;
    }
    static bool can(const fs::path& path, int access) { return ::access(path.c_str(), access) == 0; }

    TemporaryDirectory home_ = std::move(*TemporaryDirectory::create());
};

TEST_F(PassageTest, LeadsToWhatIsNamedAndToNothingElse) {
    const auto data = closed() / "deep" / "data";
    const std::vector<fs::path> places{data, closed() / "image", closed() / "missing", data / "own"};
    EXPECT_TRUE(holds(places, [&] { return can(data / "own", R_OK) && can(closed() / "image", R_OK); }));
    EXPECT_TRUE(holds(places, [&] {
        std::ofstream{data / "new"} << "x";
        return can(data / "new", W_OK);
    }));
    EXPECT_TRUE(holds(places, [&] {
        const auto seen = std::distance(fs::directory_iterator{closed()}, {});
        return seen == 2 && !can(closed() / "secret", F_OK);
    }));
    EXPECT_TRUE(holds(places, [&] { return ::mkdir((closed() / "x").c_str(), 0700) != 0; }));
    // What was made there is there, and for everybody else nothing has changed.
    EXPECT_TRUE(fs::exists(data / "new"));
    EXPECT_TRUE(fs::exists(closed() / "secret"));
    EXPECT_FALSE(fs::exists(closed() / "x"));
}

TEST_F(PassageTest, NothingHappensWhereTheWayIsFree) {
    ASSERT_EQ(::chmod(closed().c_str(), 0711), 0);
    EXPECT_TRUE(holds({closed() / "deep" / "data"}, [&] { return can(closed() / "secret", F_OK); }));
}

}  // namespace
}  // namespace noid::privileged
