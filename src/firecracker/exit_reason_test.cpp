#include "firecracker/exit_reason.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>

namespace noid::firecracker {
namespace {

using How = vmm::Exit::How;
using Status = launcher::ExitStatus;

constexpr const char* good_bye =
    "2026-11-25T09:01:05.934004773 [a-1:main] Firecracker exiting successfully. exit_code=0\n";

TEST(ExitReason, TheGuestEnded) {
    EXPECT_EQ(exit_reason({Status::How::exited, 0}, EndedBy::itself, good_bye).how, How::guest_shutdown);
}

TEST(ExitReason, ACrashHasTheLastWords) {
    const auto exit =
        exit_reason({Status::How::exited, 148}, EndedBy::itself, "Shutting down VM after a bad syscall");
    EXPECT_EQ(exit.how, How::crashed);
    EXPECT_EQ(exit.detail, "exited with status 148; its last words: Shutting down VM after a bad syscall");
    EXPECT_EQ(exit_reason({Status::How::signalled, SIGSEGV}, EndedBy::itself, "").how, How::crashed);
}

TEST(ExitReason, SomebodyKilledIt) {
    EXPECT_EQ(exit_reason({Status::How::signalled, SIGKILL}, EndedBy::itself, "").how, How::killed);
    EXPECT_EQ(exit_reason({Status::How::signalled, SIGTERM}, EndedBy::us, "").how, How::killed);
    EXPECT_EQ(exit_reason({Status::How::unknown, 0}, EndedBy::us, "").how, How::killed);
}

TEST(ExitReason, AnAdoptedProcessIsTakenAtItsWord) {
    EXPECT_EQ(exit_reason({Status::How::unknown, 0}, EndedBy::itself, good_bye).how, How::guest_shutdown);
    EXPECT_EQ(exit_reason({Status::How::unknown, 0}, EndedBy::itself, "").how, How::crashed);
}

}  // namespace
}  // namespace noid::firecracker
