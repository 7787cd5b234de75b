#include "launcher/capabilities.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>

#include "base/file.hpp"

namespace noid::launcher {
namespace {

// In a process of its own, because nothing brings them back.
TEST(Capabilities, OnlyTheKeptStay) {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    const pid_t child = ::fork();
    if (child == 0) {
        constexpr std::array kept{CAP_CHOWN, CAP_KILL};
        if (!keep_capabilities(kept)) ::_exit(1);
        const auto status = read_file("/proc/self/status", 16 * 1024);
        constexpr auto expected = "0000000000000021\n";
        for (const auto* set : {"CapPrm:\t", "CapEff:\t", "CapBnd:\t"}) {
            if (status->find(std::string{set} + expected) == std::string::npos) ::_exit(2);
        }
        if (status->find("NoNewPrivs:\t1\n") == std::string::npos) ::_exit(3);
        // Not even by executing something as root.
        ::execl("/bin/sh", "sh", "-c", "grep -q '^CapEff:.*0000000000000021$' /proc/self/status",
                static_cast<char*>(nullptr));
        ::_exit(4);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace noid::launcher
