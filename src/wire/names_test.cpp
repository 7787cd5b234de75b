#include "wire/names.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace noid::wire {
namespace {

std::string reason(std::string_view name) {
    const auto checked = check_vm_name(name);
    return checked ? "" : checked.error().what;
}

TEST(VmNameRule, AcceptsTheWholeAlphabetUpTo64Bytes) {
    for (const char* name : {"a", "A9", "_x", "web-1.prod_2", "9lives", "a.b.c", "a-"})
        EXPECT_EQ(reason(name), "") << name;
    EXPECT_EQ(reason(std::string(64, 'x')), "");
}

TEST(VmNameRule, RefusalsHaveTheTextsThatClientsKnow) {
    EXPECT_EQ(reason(""), "VM name cannot be empty");
    EXPECT_EQ(reason(std::string(65, 'x')), "VM name too long (max 64 characters)");
    EXPECT_EQ(reason(".a"), "VM name cannot start with . or -");
    EXPECT_EQ(reason("-a"), "VM name cannot start with . or -");
    EXPECT_EQ(reason("a..b"), "VM name cannot contain '..'");
    const char* odd = "VM name contains invalid characters (only a-z, A-Z, 0-9, _, -, . allowed)";
    for (const std::string_view name :
         {std::string_view{"a b"}, std::string_view{"a/b"}, std::string_view{"ü"},
          std::string_view{"a\0b", 3}, std::string_view{"a\n"}}) {
        EXPECT_EQ(reason(name), odd) << name;
    }
}

std::string env_reason(const std::vector<std::string>& env) {
    const auto checked = check_env(env);
    return checked ? "" : checked.error().what;
}

TEST(EnvRule, AcceptsEmptyValuesAndFurtherEqualsSigns) {
    EXPECT_EQ(env_reason({}), "");
    EXPECT_EQ(env_reason({"A=", "_b1=x=y=z", "C=" + std::string(32768, 'v')}), "");
}

TEST(EnvRule, RefusalsHaveTheTextsThatClientsKnow) {
    EXPECT_EQ(env_reason(std::vector<std::string>(65, "A=1")), "too many env vars (65, max 64)");
    EXPECT_EQ(env_reason({"NOEQUALS"}), "invalid env var (expected KEY=VALUE): NOEQUALS");
    EXPECT_EQ(env_reason({"1A=x"}), "invalid env var name: 1A");
    EXPECT_EQ(env_reason({"=x"}), "invalid env var name: ");
    EXPECT_EQ(env_reason({"A-B=x"}), "invalid env var name: A-B");
    EXPECT_EQ(env_reason({"K=" + std::string(32769, 'v')}),
              "env var value too long for K (32769 bytes, max 32768)");
    EXPECT_EQ(env_reason({std::string{"K=a\0b", 5}}), "env var value contains a NUL byte: K");
}

TEST(EnvRule, QuotesAreBounded) {
    EXPECT_LT(env_reason({std::string(100000, 'x')}).size(), 256U);
}

}  // namespace
}  // namespace noid::wire
