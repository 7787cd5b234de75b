#include "config/server_config.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <map>

namespace noid::config {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using namespace std::chrono_literals;

// A home directory of its own, and an environment that holds nothing else.
class ServerConfigTest : public testing::Test {
  protected:
    ServerConfigTest() {
        std::string pattern = (fs::temp_directory_path() / "noid-config-XXXXXX").string();
        home_ = ::mkdtemp(pattern.data());
        environment_["HOME"] = home_.string();
    }
    ~ServerConfigTest() override { fs::remove_all(home_); }

    ConfigSource source(std::string_view toml) {
        const fs::path file = home_ / "given.toml";
        std::ofstream{file} << toml;
        ConfigSource source = nothing();
        source.file = file;
        return source;
    }
    ConfigSource nothing() {
        ConfigSource source;
        source.environment = [this](const std::string& name) -> std::optional<std::string> {
            const auto found = environment_.find(name);
            if (found == environment_.end()) return std::nullopt;
            return found->second;
        };
        return source;
    }
    std::string error(std::string_view toml) {
        auto loaded = load_server_config(source(toml), false);
        return loaded ? "no error" : loaded.error().what;
    }

    fs::path home_;
    std::map<std::string, std::string> environment_;
};

TEST_F(ServerConfigTest, DefaultsHoldWithoutAFile) {
    const auto config = load_server_config(nothing(), false);
    ASSERT_TRUE(config) << config.error().what;
    EXPECT_EQ(config->server.listen, "0.0.0.0:7654");
    EXPECT_EQ(config->server.timeout, 30s);
    EXPECT_EQ(config->server.workers, 4u);
    EXPECT_EQ(config->paths.data_dir, home_ / ".noid");
    EXPECT_EQ(config->limits.max_vms, 100u);
    EXPECT_EQ(config->limits.max_memory_per_vm, MiB{4096});
}

TEST_F(ServerConfigTest, ReadsTheTablesOfTheGuide) {
    const auto config = load_server_config(source(R"(
[server]
listen = "127.0.0.1:1234"
timeout = 5000
workers = 2
[paths]
kernel = "~/k"
rootfs = "/srv/r.ext4"
data_dir = "~/d"
[limits]
max_vms = 3
max_memory_per_vm = 512
[logging]
level = "debug"
)"),
                                           false);
    ASSERT_TRUE(config) << config.error().what;
    EXPECT_EQ(config->server.listen, "127.0.0.1:1234");
    EXPECT_EQ(config->server.timeout, 5s);
    EXPECT_EQ(config->paths.kernel, home_ / "k");
    EXPECT_EQ(config->paths.rootfs, "/srv/r.ext4");
    EXPECT_EQ(config->paths.initrd, home_ / "d/images/initrd.cpio");
    EXPECT_EQ(config->limits.max_vms, 3u);
    EXPECT_EQ(config->logging.level, ServerConfig::Logging::Level::debug);
}

TEST_F(ServerConfigTest, ReadsOlderFlatKeys) {
    const auto config =
        load_server_config(source("kernel=\"/k\"\nrootfs=\"/"
                                  "r\"\nlisten=\"1.2.3.4:5\"\nmax_ws_sessions=7\ntrust_forwarded_for=true\n"
                                  "exec_timeout_secs=9\nconsole_timeout_secs=11\n"),
                           false);
    ASSERT_TRUE(config) << config.error().what;
    EXPECT_EQ(config->paths.kernel, "/k");
    EXPECT_EQ(config->server.max_ws_sessions, 7u);
    EXPECT_TRUE(config->server.trust_forwarded_for);
    EXPECT_EQ(config->server.exec_timeout, 9s);
    EXPECT_EQ(config->server.console_timeout, 11s);
}

TEST_F(ServerConfigTest, AKeyInBothFormsMustAgree) {
    EXPECT_THAT(error("listen=\"a:1\"\n[server]\nlisten=\"a:2\"\n"), HasSubstr("keep one"));
    EXPECT_EQ(error("listen=\"a:1\"\n[server]\nlisten=\"a:1\"\n"), "no error");
}

TEST_F(ServerConfigTest, ErrorsNameFileLineColumnAndWhatIsExpected) {
    const std::string file = (home_ / "given.toml").string();
    EXPECT_THAT(error("[server]\nworkers = \"four\"\n"),
                HasSubstr(file + ":2:11: server.workers is \"four\", expected"));
    EXPECT_THAT(error("[server]\nworker = 4\n"),
                HasSubstr(file + ":2:10: unknown key 'worker' in [server]; known: listen"));
    EXPECT_THAT(error("[servr]\nx = 4\n"), HasSubstr("unknown table [servr]"));
    EXPECT_THAT(error("max_vms = 4\n"), HasSubstr("'max_vms' belongs into [limits]"));
    EXPECT_THAT(error("[server\n"), HasSubstr(file + ":1:8"));
    EXPECT_THAT(error("[server]\nlisten = \"nowhere\"\n"), HasSubstr("expected an address"));
    EXPECT_THAT(error("[server]\nlisten = \"h:99999\"\n"), HasSubstr("expected an address"));
    EXPECT_THAT(error("[logging]\nlevel = \"loud\"\n"),
                HasSubstr("one of \"debug\", \"info\", \"warn\", \"error\""));
    EXPECT_THAT(error("[guest]\ninit = \"sbin/init\"\n"), HasSubstr("absolute path"));
    EXPECT_THAT(error("[server]\nlisten = [1]\n"), HasSubstr("must be a string"));
}

TEST_F(ServerConfigTest, AMissingFileThatWasNamedIsAnError) {
    ConfigSource source = nothing();
    source.file = home_ / "absent.toml";
    const auto config = load_server_config(source, false);
    ASSERT_FALSE(config);
    EXPECT_EQ(config.error().code, Errc::not_found);
    EXPECT_THAT(config.error().what, HasSubstr("failed to read config file"));
}

TEST_F(ServerConfigTest, FlagsWinOverVariablesAndVariablesOverTheFile) {
    ConfigSource given = source("[server]\nlisten = \"file:1\"\nworkers = 1\ntimeout = 1000\n");
    environment_["NOID_LISTEN"] = "variable:2";
    environment_["NOID_WORKERS"] = "2";
    environment_["NOID_DATA_DIR"] = "~/elsewhere";
    given.flags = {{"listen", "flag:3"}};
    const auto config = load_server_config(given, false);
    ASSERT_TRUE(config) << config.error().what;
    EXPECT_EQ(config->server.listen, "flag:3");
    EXPECT_EQ(config->server.workers, 2u);
    EXPECT_EQ(config->server.timeout, 1s);
    EXPECT_EQ(config->paths.data_dir, home_ / "elsewhere");

    environment_["NOID_WORKERS"] = "many";
    const auto bad = load_server_config(given, false);
    ASSERT_FALSE(bad);
    EXPECT_THAT(bad.error().what,
                HasSubstr("NOID_WORKERS: server.workers is \"many\", expected a whole number"));
}

TEST_F(ServerConfigTest, SearchesHomeBeforeEtc) {
    fs::create_directory(home_ / ".noid");
    std::ofstream{home_ / ".noid/server.toml"} << "[server]\nworkers = 3\n";
    EXPECT_EQ(find_config(nothing(), false), home_ / ".noid/server.toml");
    const auto config = load_server_config(nothing(), false);
    ASSERT_TRUE(config);
    EXPECT_EQ(config->server.workers, 3u);
}

}  // namespace
}  // namespace noid::config
