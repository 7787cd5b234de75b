#include "cli/active_vm.hpp"

#include <gtest/gtest.h>

#include <fstream>

#include "base/temporary_directory.hpp"

namespace noid::cli {
namespace {

namespace fs = std::filesystem;

class ActiveVm : public testing::Test {
  protected:
    void put(const fs::path& name, std::string_view text) { std::ofstream{root_ / name} << text; }

    TemporaryDirectory directory_ = *TemporaryDirectory::create();
    fs::path root_ = directory_.path();
};

TEST_F(ActiveVm, IsTheTrimmedContentOfTheNearestMarker) {
    fs::create_directories(root_ / "a/b");
    put(".noid-vm", "outer\n");
    EXPECT_EQ(find_active_vm(root_ / "a/b"), "outer");
    put("a/.noid-vm", "  inner \r\n\n");
    EXPECT_EQ(find_active_vm(root_ / "a/b"), "inner");
}

TEST_F(ActiveVm, TakesTheOlderMarkerOnlyWhenItIsAFile) {
    fs::create_directories(root_ / "a/.noid");  // as the data directory below a home is
    put(".noid", "older\n");
    EXPECT_EQ(find_active_vm(root_ / "a"), "older");
    put(".noid-vm", "newer\n");
    EXPECT_EQ(find_active_vm(root_ / "a"), "newer");
}

TEST_F(ActiveVm, PassesOverMarkersThatNameNothing) {
    fs::create_directories(root_ / "a");
    put(".noid-vm", "outer\n");
    put("a/.noid-vm", " \n");
    EXPECT_EQ(find_active_vm(root_ / "a"), "outer");
}

TEST_F(ActiveVm, AnArgumentWinsAndWithoutBothTheErrorSaysWhatToRun) {
    const Environment environment{[](const std::string&) { return std::nullopt; }, root_};
    EXPECT_EQ(*vm_or_active("given", environment), "given");
    const auto none = vm_or_active(std::nullopt, environment);
    ASSERT_FALSE(none);
    EXPECT_EQ(none.error().what, "no VM specified. Pass a name or run: noid use <name>");
    ASSERT_TRUE(set_active_vm(environment, "chosen"));
    EXPECT_EQ(*vm_or_active(std::nullopt, environment), "chosen");
}

}  // namespace
}  // namespace noid::cli
