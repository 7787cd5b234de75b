// Templates that make themselves, and golden.
#include <gtest/gtest.h>

#include <fstream>

#include "vm/testing/engine_world.hpp"

namespace noid::vm {
namespace {

namespace fs = std::filesystem;

class TemplatesTest : public EngineWorld {
  protected:
    TemplatesTest() { config_.storage.template_budget = MiB{64}; }
    [[nodiscard]] fs::path templates() const { return config_.paths.data_dir / "templates"; }
    [[nodiscard]] std::size_t kept() const {
        return static_cast<std::size_t>(std::distance(fs::directory_iterator{templates()}, {}));
    }
    // A create whose template, if it made one, is on the disk: the server was closed in between.
    Awaitable<VmView> make(CreateRequest wanted) {
        co_await open();
        auto ann = co_await tenant();
        auto made = co_await ann->create(std::move(wanted));
        EXPECT_TRUE(made) << made.error().full();
        ann.reset();
        co_await close();
        co_return made->vm;
    }
};

TEST_F(TemplatesTest, TheSecondCreateOfAShapeWakesFromTheFirst) {
    run([this]() -> Awaitable<void> {
        const VmView first = co_await make(request("a"));
        EXPECT_EQ(first.start_kind, "boot");
        EXPECT_EQ(kept(), 1u);
        EXPECT_EQ(script_->identities.size(), 1u) << "saved before the guest knew who it was";
        const VmView second = co_await make(request("b"));
        EXPECT_EQ(second.start_kind, "template");
        EXPECT_EQ(second.origin, "");
        EXPECT_TRUE(second.warnings.empty());
        EXPECT_EQ(script_->identities.back().hostname, "b");
        EXPECT_TRUE(script_->identities.back().end_sessions);
        EXPECT_EQ(kept(), 1u);
        CreateRequest larger = request("c");
        larger.memory = MiB{192};
        EXPECT_EQ((co_await make(larger)).start_kind, "boot");
        EXPECT_EQ(kept(), 2u);
    });
}

TEST_F(TemplatesTest, AChangedImageIsSaidAndBootsAndMakesTheTemplateAnew) {
    run([this]() -> Awaitable<void> {
        (void)co_await make(request("a"));
        std::ofstream{config_.paths.rootfs} << "another image";
        fs::resize_file(config_.paths.rootfs, MiB{2}.bytes());
        const VmView second = co_await make(request("b"));
        EXPECT_EQ(second.start_kind, "boot");
        EXPECT_EQ(second.warnings,
                  std::vector<std::string>{
                      "the template does not fit any more: the image has changed; booted instead"});
        EXPECT_EQ(kept(), 1u);
        EXPECT_EQ((co_await make(request("c"))).start_kind, "template");
    });
}

TEST_F(TemplatesTest, OneThatDoesNotWakeIsDroppedAndTheVmBoots) {
    run([this]() -> Awaitable<void> {
        (void)co_await make(request("a"));
        script_->restore_fails = Error{Errc::internal, "no"};
        const VmView second = co_await make(request("b"));
        EXPECT_EQ(second.start_kind, "boot");
        EXPECT_EQ(second.warnings, std::vector<std::string>{"the template did not wake; booted instead"});
        script_->restore_fails.reset();
        EXPECT_EQ(alive(), 2u);
        EXPECT_TRUE(fs::exists(user_directory() / "vms" / "b" / "rootfs.ext4"));
    });
}

TEST_F(TemplatesTest, AGuestWhoseResumeIsNotAnsweredInTimeIsAskedAgainAndTheCreateSucceeds) {
    run([this]() -> Awaitable<void> {
        script_->resumes_that_time_out = 1;
        EXPECT_EQ((co_await make(request("a"))).state, State::running);
        EXPECT_EQ(script_->resumes_that_time_out, 0u);
        for (const auto& file : fs::directory_iterator{user_directory() / "vms" / "a"})
            EXPECT_FALSE(file.path().filename().string().starts_with("paused.")) << "it stands still";
    });
}

TEST_F(TemplatesTest, TheLeastRecentlyUsedGoesWhenTheBudgetIsFull) {
    run([this]() -> Awaitable<void> {
        std::ofstream image{config_.paths.rootfs, std::ios::binary};
        image << std::string(MiB{2}.bytes(), 'x');
        image.close();
        config_.storage.template_budget = MiB{5};
        for (std::uint64_t memory : {128, 129, 130}) {
            CreateRequest wanted = request(("vm" + std::to_string(memory)).c_str());
            wanted.memory = MiB{memory};
            EXPECT_EQ((co_await make(wanted)).start_kind, "boot");
        }
        EXPECT_EQ(kept(), 2u);
        CreateRequest oldest = request("again");
        EXPECT_EQ((co_await make(oldest)).start_kind, "boot");
    });
}

TEST_F(TemplatesTest, AFailedSaveIsNoFailedCreate) {
    run([this]() -> Awaitable<void> {
        script_->save_fails = Error{Errc::no_space, "disk full"};
        EXPECT_EQ((co_await make(request("a"))).start_kind, "boot");
        EXPECT_EQ(kept(), 0u);
    });
}

}  // namespace
}  // namespace noid::vm
