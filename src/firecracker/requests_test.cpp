#include "firecracker/requests.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>

namespace noid::firecracker {
namespace {

using boost::json::parse;

vmm::MachineSpec example() {
    vmm::MachineSpec spec;
    spec.id = "a-1";
    spec.vcpus = 2;
    spec.memory = MiB{512};
    spec.kernel = "/images/vmlinux";
    spec.initrd = "/images/initrd.img";
    spec.kernel_arguments = "noid.x=1";
    spec.network = vmm::NetworkAttachment{"tap0", "AA:FC:00:00:00:01", "/run/netns/noid3"};
    spec.track_dirty_pages = true;
    return spec;
}

TEST(Requests, BootInTheOrderThatFirecrackerWants) {
    std::vector<std::string> sent;
    for (const auto& request : boot(example())) sent.push_back(describe(request));
    EXPECT_THAT(sent, testing::ElementsAre("PUT /machine-config", "PUT /boot-source", "PUT /drives/rootfs",
                                           "PUT /network-interfaces/eth0", "PUT /vsock", "PUT /entropy",
                                           "PUT /balloon", "PUT /actions"));
}

TEST(Requests, NoBalloonWhereTheLayoutHasNone) {
    auto spec = example();
    spec.layout = 0;
    for (const auto& request : boot(spec)) EXPECT_NE(request.target, "/balloon");
}

TEST(Requests, NoInterfaceWithoutNetwork) {
    auto spec = example();
    spec.network.reset();
    for (const auto& request : boot(spec)) EXPECT_NE(request.target, "/network-interfaces/eth0");
    const auto load = load_snapshot(spec, {}, vmm::Vmm::Wake::running);
    EXPECT_FALSE(parse(load.body).as_object().contains("network_overrides"));
}

TEST(Requests, BodiesOfABoot) {
    const auto spec = example();
    EXPECT_EQ(parse(machine_config(spec).body),
              parse(R"({"vcpu_count":2,"mem_size_mib":512,"track_dirty_pages":true})"));
    EXPECT_EQ(parse(boot_source(spec).body),
              parse(R"({"kernel_image_path":"/images/vmlinux","initrd_path":"/images/initrd.img",
                  "boot_args":"console=ttyS0 reboot=k panic=1 quiet 8250.nr_uarts=1 i8042.noaux i8042.nomux i8042.dumbkbd noid.x=1"})"));
    EXPECT_EQ(parse(root_drive(spec).body),
              parse(R"({"drive_id":"rootfs","path_on_host":"rootfs.ext4","is_root_device":true,
                  "is_read_only":false})"));
    EXPECT_EQ(parse(network_interface(*spec.network).body),
              parse(R"({"iface_id":"eth0","guest_mac":"AA:FC:00:00:00:01","host_dev_name":"tap0"})"));
    EXPECT_EQ(parse(vsock().body), parse(R"({"guest_cid":3,"uds_path":"v.sock"})"));
    EXPECT_EQ(parse(entropy().body), parse("{}"));
    EXPECT_EQ(parse(balloon(spec).body),
              parse(R"({"amount_mib":0,"deflate_on_oom":true,"stats_polling_interval_s":10,
                  "free_page_hinting":false,"free_page_reporting":true})"));
    EXPECT_EQ(parse(instance_start().body), parse(R"({"action_type":"InstanceStart"})"));
}

TEST(Requests, LimitsOfTheDrive) {
    auto spec = example();
    spec.disk_limit = {.bytes_per_second = 1'000'000, .operations_per_second = 0};
    EXPECT_EQ(parse(root_drive(spec).body),
              parse(R"({"drive_id":"rootfs","path_on_host":"rootfs.ext4","is_root_device":true,
                  "is_read_only":false,"rate_limiter":{"bandwidth":{"size":1000000,"refill_time":1000},
                  "ops":{"size":0,"refill_time":0}}})"));
    const auto none = set_disk_limit({});
    EXPECT_EQ(describe(none), "PATCH /drives/rootfs");
    EXPECT_EQ(parse(none.body),
              parse(R"({"drive_id":"rootfs","rate_limiter":{"bandwidth":{"size":0,"refill_time":0},
                  "ops":{"size":0,"refill_time":0}}})"));
}

TEST(Requests, WhileItRuns) {
    EXPECT_EQ(set_balloon(MiB{48}), (Request{Request::Method::patch, "/balloon", R"({"amount_mib":48})"}));
    EXPECT_EQ(describe(balloon_statistics()), "GET /balloon/statistics");
    EXPECT_EQ(flush_metrics(),
              (Request{Request::Method::put, "/actions", R"({"action_type":"FlushMetrics"})"}));
}

TEST(Requests, NoInitrdWithoutOne) {
    auto spec = example();
    spec.initrd.clear();
    EXPECT_FALSE(parse(boot_source(spec).body).as_object().contains("initrd_path"));
}

TEST(Requests, Snapshots) {
    const vmm::SnapshotFiles files{"m.snap", "s.snap"};
    EXPECT_EQ(parse(create_snapshot(files, vmm::SnapshotKind::full).body),
              parse(R"({"snapshot_type":"Full","snapshot_path":"s.snap","mem_file_path":"m.snap"})"));
    EXPECT_EQ(parse(create_snapshot(files, vmm::SnapshotKind::incremental).body),
              parse(R"({"snapshot_type":"Diff","snapshot_path":"s.snap","mem_file_path":"m.snap"})"));
    EXPECT_EQ(
        parse(load_snapshot(example(), files, vmm::Vmm::Wake::paused).body),
        parse(R"({"snapshot_path":"s.snap","mem_backend":{"backend_type":"File","backend_path":"m.snap"},
                  "track_dirty_pages":true,"resume_vm":false,"vsock_override":{"uds_path":"v.sock"},
                  "network_overrides":[{"iface_id":"eth0","host_dev_name":"tap0"}]})"));
}

TEST(Requests, PauseAndResume) {
    EXPECT_EQ(pause(), (Request{Request::Method::patch, "/vm", R"({"state":"Paused"})"}));
    EXPECT_EQ(resume(), (Request{Request::Method::patch, "/vm", R"({"state":"Resumed"})"}));
}

}  // namespace
}  // namespace noid::firecracker
