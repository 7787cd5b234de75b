#include "wire/user_limits.hpp"

#include <gtest/gtest.h>

namespace noid::wire {
namespace {

TEST(UserLimits, WrittenAndReadAgainAreTheSame) {
    const UserLimits limits{.own = {.max_vms = 3, .max_disk_mib = 0},
                            .allowed = {.vms = 3, .memory_mib = 4096, .vcpus = 8, .disk_mib = 0},
                            .used = {.vms = 1, .memory_mib = 512, .vcpus = 2, .disk_mib = 77}};
    const auto again = UserLimits::from_json(to_json(limits));
    ASSERT_TRUE(again);
    EXPECT_EQ(to_json(*again), to_json(limits));
    EXPECT_EQ(again->own.max_vms, 3U);
    EXPECT_EQ(again->own.max_vcpus, std::nullopt);
    EXPECT_EQ(again->own.max_disk_mib, 0U);
}

TEST(UserLimits, ANumberThatIsNoneIsRefusedByName) {
    for (const char* text : {R"({"max_vms":-1})", R"({"max_vms":"many"})", R"({"max_vms":1.5})"}) {
        const auto limits = OwnLimits::from_json(*parse_json(text));
        ASSERT_FALSE(limits) << text;
        EXPECT_NE(limits.error().what.find("max_vms"), std::string::npos);
    }
    EXPECT_FALSE(UserLimits::from_json(*parse_json(R"({"own":{}})")));
}

}  // namespace
}  // namespace noid::wire
