#include "vm/resources.hpp"

#include <gtest/gtest.h>

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>

#include "vm/snapshot.hpp"

namespace noid::vm {
namespace {

namespace json = boost::json;
using Limits = config::ServerConfig::Limits;

Resources with(MiB balloon, std::uint64_t bytes = 0, std::uint64_t operations = 0) {
    return {balloon, {bytes, operations}};
}

TEST(Resources, ABalloonLeavesTheGuestEnough) {
    const Limits limits;
    EXPECT_TRUE(check(with(MiB{0}), MiB{64}, limits));
    EXPECT_TRUE(check(with(MiB{448}), MiB{512}, limits));
    for (const auto size : {MiB{449}, MiB{512}, MiB{~std::uint64_t{0}}})
        EXPECT_EQ(check(with(size), MiB{512}, limits).error().code, Errc::invalid);
    EXPECT_EQ(check(with(MiB{1}), MiB{64}, limits).error().code, Errc::invalid);
    EXPECT_EQ(check(with(MiB{449}), MiB{512}, limits).error().what,
              "balloon_mib must leave the guest 64 MiB: at most 448 of 512");
}

TEST(Resources, LimitsOfTheDiskAreBounded) {
    Limits limits;
    EXPECT_TRUE(check(with({}, 65'536, 10), MiB{64}, limits));
    EXPECT_TRUE(check(with({}, 1'000'000'000'000, 1'000'000'000'000), MiB{64}, limits));
    EXPECT_EQ(check(with({}, 65'535), MiB{64}, limits).error().code, Errc::invalid);
    EXPECT_EQ(check(with({}, 0, 9), MiB{64}, limits).error().code, Errc::invalid);
    EXPECT_EQ(check(with({}, 1'000'000'000'001), MiB{64}, limits).error().code, Errc::invalid);
    limits.max_disk_bytes_per_second = 1'000'000;
    EXPECT_TRUE(check(with({}, 1'000'000), MiB{64}, limits));
    EXPECT_EQ(check(with({}, 1'000'001), MiB{64}, limits).error().code, Errc::limit_exceeded);
    EXPECT_EQ(check(with({}, 0), MiB{64}, limits).error().code, Errc::limit_exceeded)
        << "without a limit it is more than allowed";
}

TEST(Resources, ANewVmGetsTheServersDefaults) {
    Limits limits;
    EXPECT_EQ(resources_of_new_vm({}, limits), Resources{});
    limits.disk_bytes_per_second = 5'000'000;
    limits.max_disk_ops_per_second = 100;
    EXPECT_EQ(resources_of_new_vm({}, limits), with({}, 5'000'000, 100));
    ResourceChange asked;
    asked.disk_bytes_per_second = 0;
    EXPECT_EQ(resources_of_new_vm(asked, limits), with({}, 0, 100));
}

TEST(Resources, ACloneGetsNoMoreThanTheServerGives) {
    Limits limits;
    EXPECT_EQ(resources_of_clone(with(MiB{8}, 2'000'000), MiB{128}, limits), with(MiB{8}, 2'000'000));
    limits.max_disk_bytes_per_second = 1'000'000;
    EXPECT_EQ(resources_of_clone(with(MiB{8}, 2'000'000), MiB{128}, limits), with(MiB{8}, 1'000'000));
    EXPECT_EQ(resources_of_clone(with(MiB{8}), MiB{128}, limits), with(MiB{8}, 1'000'000));
    // What somebody has written into a checkpoint.
    EXPECT_EQ(resources_of_clone(with(MiB{128}, 1), MiB{128}, limits), with({}, 1'000'000));
}

TEST(Resources, GoThroughFiles) {
    json::object object;
    put_resources(object, {});
    EXPECT_TRUE(object.empty());
    put_resources(object, with(MiB{8}, 100'000, 20));
    EXPECT_EQ(*read_resources(json::value(object)), with(MiB{8}, 100'000, 20));
    object["balloon_mib"] = "much";
    EXPECT_EQ(read_resources(json::value(object)).error().code, Errc::corrupt);
}

SnapshotConfig example() {
    SnapshotConfig config;
    config.id = "0123456789abcdef";
    config.vm_id = "fedcba9876543210";
    config.vm_name = "a";
    config.memory = MiB{128};
    config.vmm = "qemu";
    config.vmm_version = "1";
    config.accelerator = "tcg";
    config.cpu_fingerprint = "cpu";
    return config;
}

TEST(SnapshotLayout, IsThatOfBeforeWhereNothingIsSaid) {
    auto config = example();
    config.layout = vmm::newest_layout;
    config.resources = with(MiB{8}, 100'000);
    const auto now = SnapshotConfig::from_json(config.to_json());
    ASSERT_TRUE(now) << now.error().what;
    EXPECT_EQ(now->layout, vmm::newest_layout);
    EXPECT_EQ(now->resources, with(MiB{8}, 100'000));

    auto text = config.to_json();
    const std::string said = R"("layout":1,)";
    ASSERT_NE(text.find(said), std::string::npos) << text;
    text.erase(text.find(said), said.size());
    EXPECT_EQ(SnapshotConfig::from_json(text)->layout, 0U);
}

TEST(SnapshotLayout, OneThatIsNotKnownIsRefusedInWords) {
    vmm::Description description{
        .kind = vmm::Kind::qemu, .version = "1", .accelerator = "tcg", .cpu_fingerprint = "cpu"};
    auto config = example();
    for (const auto known : {vmm::Layout{0}, vmm::newest_layout}) {
        config.layout = known;
        EXPECT_EQ(config.obstacle(description), "");
    }
    config.layout = vmm::newest_layout + 1;
    EXPECT_EQ(config.obstacle(description),
              "its machine has devices (layout 2) that this server does not know");
}

}  // namespace
}  // namespace noid::vm
