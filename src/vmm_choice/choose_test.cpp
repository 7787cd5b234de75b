#include "vmm_choice/choose.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>
#include <filesystem>
#include <fstream>

#include "base/temporary_directory.hpp"

namespace noid::vmm_choice {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;
using Wanted = config::ServerConfig::Vmm;

class ChooseTest : public testing::Test {
  protected:
    // A program that prints these lines, whatever it is asked.
    std::filesystem::path program(const std::string& name, const std::string& says) {
        const auto path = home_.path() / name;
        std::ofstream{path} << "#!/bin/sh\necho '" << says << "'\n";
        std::filesystem::permissions(path, std::filesystem::perms::owner_all);
        return path;
    }
    Result<Choice> choice() {
        Result<Choice> result = fail(Errc::internal, "the choice did not end");
        config::ServerConfig config;
        config.vmm = wanted_;
        config.paths.data_dir = home_.path();
        auto starter = local_starter(config);
        if (!starter) return fail(starter.error());
        asio::co_spawn(loop_, choose(wanted_, std::move(*starter), pool_),
                       [&](std::exception_ptr thrown, Result<Choice> made) {
                           if (thrown) std::rethrow_exception(thrown);
                           result = std::move(made);
                       });
        loop_.run();
        return result;
    }

    TemporaryDirectory home_ = std::move(*TemporaryDirectory::create());
    Wanted wanted_{.firecracker = home_.path() / "missing", .accelerator = Wanted::Accelerator::automatic};
    asio::io_context loop_;
    asio::thread_pool pool_{1};
};

TEST_F(ChooseTest, AutomaticTakesQemuWithoutFirecrackerAndSaysWhy) {
    const auto made = choice();
    ASSERT_TRUE(made) << made.error().full();
    EXPECT_EQ(made->vmm->description().kind, vmm::Kind::qemu);
    EXPECT_THAT(made->reason, AllOf(StartsWith("qemu "), HasSubstr("Firecracker cannot be used: "),
                                    HasSubstr("missing not found"), testing::Not(HasSubstr("\n"))));
}

TEST_F(ChooseTest, AutomaticPassesByAFirecrackerThatIsTooOld) {
    wanted_.firecracker = program("firecracker", "Firecracker v1.15.0");
    wanted_.jail = Wanted::Jail::never;  // a shell script needs a shell
    const auto made = choice();
    ASSERT_TRUE(made) << made.error().full();
    EXPECT_EQ(made->vmm->description().kind, vmm::Kind::qemu);
    EXPECT_THAT(made->reason, HasSubstr("1.15.0 is too old"));
}

TEST_F(ChooseTest, FirecrackerByNameIsNotReplaced) {
    wanted_.kind = Wanted::Choice::firecracker;
    const auto made = choice();
    ASSERT_FALSE(made);
    EXPECT_THAT(made.error().what, StartsWith("vmm.kind is firecracker: "));
}

TEST_F(ChooseTest, FirecrackerNeedsKvm) {
    wanted_.kind = Wanted::Choice::firecracker;
    wanted_.accelerator = Wanted::Accelerator::tcg;
    const auto made = choice();
    ASSERT_FALSE(made);
    EXPECT_EQ(made.error().code, Errc::unsupported);
}

TEST_F(ChooseTest, QemuByNameDoesNotLookAtFirecracker) {
    wanted_.kind = Wanted::Choice::qemu;
    wanted_.accelerator = Wanted::Accelerator::tcg;
    const auto made = choice();
    ASSERT_TRUE(made) << made.error().full();
    EXPECT_THAT(made->reason, AllOf(HasSubstr("with tcg: as configured; ")));
}

TEST_F(ChooseTest, WithoutAnyVmmBothReasonsAreTold) {
    wanted_.qemu = home_.path() / "no-qemu";
    const auto made = choice();
    ASSERT_FALSE(made);
    EXPECT_THAT(made.error().what, AllOf(HasSubstr("QEMU: "), HasSubstr("Firecracker cannot be used: ")));
}

}  // namespace
}  // namespace noid::vmm_choice
