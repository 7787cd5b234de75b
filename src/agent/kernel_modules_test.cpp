#include "agent/kernel_modules.hpp"

#include <gtest/gtest.h>

namespace noid::agent {
namespace {

TEST(ModuleOrder, ReadsStagesFilesAndConditions) {
    const auto order = parse_module_order(
        "early virtio_mmio.ko always\n"
        "early virtio_pci.ko pci:1af4\n"
        "late virtio_net.ko virtio:1\n");
    ASSERT_TRUE(order);
    ASSERT_EQ(order->size(), 3U);
    EXPECT_EQ((*order)[0].file, "virtio_mmio.ko");
    EXPECT_EQ((*order)[0].stage, ModuleStage::early);
    EXPECT_EQ((*order)[0].condition.kind, ModuleCondition::Kind::always);
    EXPECT_EQ((*order)[1].condition.kind, ModuleCondition::Kind::pci);
    EXPECT_EQ((*order)[1].condition.id, 0x1af4U);
    EXPECT_EQ((*order)[2].stage, ModuleStage::late);
    EXPECT_EQ((*order)[2].condition.id, 1U);
}

TEST(ModuleOrder, IsEmptyForAKernelThatHasAllBuiltIn) {
    const auto order = parse_module_order("");
    ASSERT_TRUE(order);
    EXPECT_TRUE(order->empty());
}

TEST(ModuleOrder, RefusesWhatItDoesNotUnderstand) {
    for (const char* line : {"early", "early a.ko", "never a.ko always", "early a.ko sometimes",
                             "early  always", "early ../a.ko always", "early a.ko virtio:x",
                             "early a.ko virtio:", "late a.ko pci:zz", "early a.ko usb:1"}) {
        const auto order = parse_module_order(line);
        ASSERT_FALSE(order) << line;
        EXPECT_EQ(order.error().code, Errc::corrupt);
    }
}

TEST(ModuleOrder, IsBounded) {
    std::string text;
    for (int i = 0; i < 257; ++i) text += "early a.ko always\n";
    const auto order = parse_module_order(text);
    ASSERT_FALSE(order);
    EXPECT_EQ(order.error().code, Errc::too_large);
}

}  // namespace
}  // namespace noid::agent
