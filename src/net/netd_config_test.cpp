#include "net/netd_config.hpp"

#include <gtest/gtest.h>

#include <fstream>

#include "base/temporary_directory.hpp"

namespace noid::net {
namespace {

class NetdConfigFile : public testing::Test {
  protected:
    Result<NetdConfig> load(std::string_view text) {
        std::ofstream{file_} << text;
        return load_netd_config(file_);
    }

    TemporaryDirectory directory_ = TemporaryDirectory::create().value();
    std::filesystem::path file_ = directory_.path() / "netd.toml";
};

TEST_F(NetdConfigFile, EveryKeyIsOptional) {
    const auto config = load("").value();
    const NetdConfig defaults;
    EXPECT_EQ(config.socket, "/run/noid/netd.sock");
    EXPECT_EQ(config.pool.to_string(), "172.16.0.0/16");
    EXPECT_EQ(config.ready, defaults.ready);
    EXPECT_EQ(config.blocked, defaults.blocked);
    EXPECT_TRUE(config.set_ip_forward);
}

TEST_F(NetdConfigFile, EveryKeyIsRead) {
    const auto config = load(R"(
        socket = "/tmp/n/netd.sock"
        group = "wheel"
        state_dir = "/tmp/n/state"
        netns_dir = "/tmp/n/netns"
        pool = "10.9.0.0/20"
        uplink = "wan0"
        dns = ["192.0.2.53", "192.0.2.54"]
        mtu = 1400
        ready = 0
        max_connections = 100
        set_ip_forward = false
        blocked = ["10.0.0.0/8"]
    )");
    ASSERT_TRUE(config) << config.error().what;
    EXPECT_EQ(config->socket, "/tmp/n/netd.sock");
    EXPECT_EQ(config->group, "wheel");
    EXPECT_EQ(config->state_dir, "/tmp/n/state");
    EXPECT_EQ(config->netns_dir, "/tmp/n/netns");
    EXPECT_EQ(config->pool.to_string(), "10.9.0.0/20");
    EXPECT_EQ(config->uplink, "wan0");
    ASSERT_EQ(config->dns.size(), 2U);
    EXPECT_EQ(config->dns[1].to_string(), "192.0.2.54");
    EXPECT_EQ(config->mtu, 1400U);
    EXPECT_EQ(config->ready, 0U);
    EXPECT_EQ(config->max_connections, 100U);
    EXPECT_FALSE(config->set_ip_forward);
    ASSERT_EQ(config->blocked.size(), 1U);
    EXPECT_EQ(config->blocked[0].to_string(), "10.0.0.0/8");
}

TEST_F(NetdConfigFile, WhatIsWrongIsNamedWithItsLine) {
    for (const char* bad : {
             "\nsockets = \"/x\"",
             "\nsocket = \"relative\"",
             "\nsocket = 1",
             "\ngroup = \"a b\"",
             "\npool = \"172.16.0.0/8\"",
             "\npool = \"10.200.0.0/16\"",
             "\npool = \"nonsense\"",
             "\nuplink = \"a-name-that-is-too-long\"",
             "\nuplink = \"a\\\"b\"",
             "\ndns = [\"::1\"]",
             "\ndns = [\"1.1.1.1\", \"1.1.1.2\", \"1.1.1.3\", \"1.1.1.4\"]",
             "\nmtu = 500",
             "\nmtu = 70000",
             "\nready = -1",
             "\nready = 1.5",
             "\nmax_connections = 0",
             "\nset_ip_forward = 1",
             "\nblocked = \"10.0.0.0/8\"",
             "\nblocked = [\"10.0.0.1/8\"]",
             "\nready = = 1",
         }) {
        const auto config = load(bad);
        ASSERT_FALSE(config) << bad;
        EXPECT_EQ(config.error().code, Errc::invalid) << bad;
        EXPECT_NE(config.error().what.find("netd.toml:2: "), std::string::npos) << config.error().what;
    }
}

TEST_F(NetdConfigFile, AFileThatIsAskedForMustBeThere) {
    EXPECT_EQ(find_netd_config(directory_.path() / "absent.toml").error().code, Errc::not_found);
}

}  // namespace
}  // namespace noid::net
