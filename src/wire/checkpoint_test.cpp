#include "wire/checkpoint.hpp"

#include <gtest/gtest.h>

#include <boost/json/serialize.hpp>

namespace noid::wire {
namespace {

TEST(Checkpoint, GoesOutAndComesBack) {
    CheckpointInfo info;
    info.id = "0123456789abcdef";
    info.vm_name = "web";
    info.created_at = "2026-03-01 12:00:00";
    info.parent = "fedcba9876543210";
    info.automatic = true;
    info.mem_mib = 512;
    info.disk_used_bytes = 4096;
    const auto back = CheckpointInfo::from_json(to_json(info));
    ASSERT_TRUE(back);
    EXPECT_EQ(back->parent, info.parent);
    EXPECT_EQ(back->label, std::nullopt);
    EXPECT_TRUE(back->automatic);
    EXPECT_EQ(back->disk_used_bytes, 4096U);
    EXPECT_TRUE(to_json(info).at("label").is_null()) << "the original's clients want it to be there";
}

TEST(Checkpoint, RequestsOfTheOriginalsClients) {
    const auto made = CreateCheckpoint::from_json(*parse_json(R"({"label":null})"));
    ASSERT_TRUE(made);
    EXPECT_EQ(made->label, std::nullopt);
    const auto restore =
        RestoreCheckpoint::from_json(*parse_json(R"({"checkpoint_id":"a","new_name":null})"));
    ASSERT_TRUE(restore);
    EXPECT_EQ(restore->new_name, std::nullopt);
    EXPECT_TRUE(restore->keep_present);
}

TEST(Checkpoint, WhatCannotBeMeantIsRefused) {
    for (const char* text : {"{}", R"({"keep":-1})", R"({"older_than_s":99999999999})", R"({"keep":"all"})"})
        EXPECT_FALSE(PruneCheckpoints::from_json(*parse_json(text))) << text;
    EXPECT_FALSE(ChangeCheckpoint::from_json(*parse_json("{}")));
    EXPECT_FALSE(ForkVm::from_json(*parse_json(R"({"names":["a"],"count":1})")));
    EXPECT_FALSE(VmPolicy::from_json(*parse_json(R"({"idle_suspend_s":18446744073709551615})")));
}

TEST(Checkpoint, APolicyOfNothing) {
    const auto policy = VmPolicy::from_json(*parse_json("{}"));
    ASSERT_TRUE(policy);
    EXPECT_EQ(json::serialize(to_json(*policy)),
              R"({"checkpoint_every_s":null,"checkpoint_keep":10,"idle_suspend_s":null})");
}

}  // namespace
}  // namespace noid::wire
