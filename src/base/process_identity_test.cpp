#include "base/process_identity.hpp"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

namespace noid {
namespace {

TEST(ProcessIdentity, IsTheSameEachTime) {
    const auto first = identify(::getpid());
    ASSERT_TRUE(first);
    EXPECT_EQ(first->pid, ::getpid());
    EXPECT_GT(first->start_time, 0U);
    EXPECT_EQ(*identify(::getpid()), *first);
}

TEST(ProcessIdentity, IsReadBehindAMisleadingName) {
    const auto before = identify(::getpid());
    ::prctl(PR_SET_NAME, ") 1 2 (x) R 3");
    const auto after = identify(::getpid());
    ::prctl(PR_SET_NAME, "base_test");
    ASSERT_TRUE(after);
    EXPECT_EQ(*after, *before);
}

TEST(ProcessIdentity, OpensOnlyThatProcess) {
    const pid_t child = ::fork();
    if (child == 0) {
        ::pause();
        ::_exit(0);
    }
    const auto identity = identify(child);
    ASSERT_TRUE(identity);
    auto other = *identity;
    other.start_time += 1;
    EXPECT_EQ(open_process(other).error().code, Errc::not_found);

    const auto pidfd = open_process(*identity);
    ASSERT_TRUE(pidfd) << pidfd.error().what;
    ::kill(child, SIGKILL);
    pollfd ended{pidfd->get(), POLLIN, 0};
    EXPECT_EQ(::poll(&ended, 1, 10'000), 1);
    ::waitpid(child, nullptr, 0);
    EXPECT_EQ(open_process(*identity).error().code, Errc::not_found);
    EXPECT_EQ(identify(child).error().code, Errc::not_found);
}

TEST(ProcessIdentity, RefusesWhatIsNoProcess) {
    EXPECT_EQ(open_process({}).error().code, Errc::not_found);
    EXPECT_EQ(open_process({.pid = -1}).error().code, Errc::not_found);
}

}  // namespace
}  // namespace noid
