#include "agent/ssh_host_keys.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "agent/text_file.hpp"

namespace noid::agent {
namespace {

namespace fs = std::filesystem;

class SshHostKeys : public testing::Test {
  protected:
    void SetUp() override {
        std::string pattern = fs::temp_directory_path() / "noid-ssh-keys-XXXXXX";
        ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
        directory_ = pattern;
    }
    void TearDown() override { fs::remove_all(directory_); }

    [[nodiscard]] std::string contents(const char* name) const {
        return read_text_file(directory_ / name, 16384).value_or("");
    }

    fs::path directory_;
};

TEST_F(SshHostKeys, DoNothingInAnImageWithoutThem) {
    ASSERT_TRUE(renew_ssh_host_keys(directory_));
    EXPECT_TRUE(fs::is_empty(directory_));
}

TEST_F(SshHostKeys, AreMadeAnewForTheKindsThatThereAre) {
    if (::access("/usr/bin/ssh-keygen", X_OK) != 0) GTEST_SKIP() << "needs openssh-client";
    std::ofstream{directory_ / "ssh_host_ed25519_key"} << "old";
    std::ofstream{directory_ / "ssh_host_ed25519_key.pub"} << "old";
    const auto renewed = renew_ssh_host_keys(directory_);
    ASSERT_TRUE(renewed) << renewed.error().what;
    const std::string first = contents("ssh_host_ed25519_key");
    EXPECT_TRUE(first.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----"));
    EXPECT_TRUE(contents("ssh_host_ed25519_key.pub").starts_with("ssh-ed25519 "));
    EXPECT_EQ(fs::status(directory_ / "ssh_host_ed25519_key").permissions(),
              fs::perms::owner_read | fs::perms::owner_write);

    ASSERT_TRUE(renew_ssh_host_keys(directory_));
    EXPECT_NE(contents("ssh_host_ed25519_key"), first);
    EXPECT_EQ(std::distance(fs::directory_iterator{directory_}, {}), 2);
}

}  // namespace
}  // namespace noid::agent
