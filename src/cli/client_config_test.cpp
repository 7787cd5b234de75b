#include "cli/client_config.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <map>

#include "base/temporary_directory.hpp"

namespace noid::cli {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class ClientConfigFile : public testing::Test {
  protected:
    Environment environment() {
        return {[this](const std::string& name) -> std::optional<std::string> {
                    const auto found = variables_.find(name);
                    return found == variables_.end() ? std::nullopt : std::optional{found->second};
                },
                home_.path()};
    }
    void write(std::string_view text) {
        fs::create_directories(file_.parent_path());
        std::ofstream{file_} << text;
    }

    TemporaryDirectory home_ = *TemporaryDirectory::create();
    fs::path file_ = home_.path() / ".noid/config.toml";
    std::map<std::string, std::string> variables_{{"HOME", home_.path().string()}};
};

TEST_F(ClientConfigFile, IsReadAsItWasSavedAndOnlyTheOwnerCanReadIt) {
    ASSERT_TRUE(save_config(file_, {"http://host:7654", "secret \"quoted\""}));
    const auto loaded = load_config(file_);
    ASSERT_TRUE(loaded && *loaded);
    EXPECT_EQ((*loaded)->url, "http://host:7654");
    EXPECT_EQ((*loaded)->token, "secret \"quoted\"");
    struct stat info {};
    ASSERT_EQ(::stat(file_.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 07777, 0600U);
    ASSERT_EQ(::stat(file_.parent_path().c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 07777, 0700U);
}

TEST_F(ClientConfigFile, SavingReplacesTheFileAndItsModeAndLeavesNothingElse) {
    write("[server]\nurl = 'http://old'\ntoken = 'old'\n");
    fs::permissions(file_, fs::perms{0644});
    ASSERT_TRUE(save_config(file_, {"http://new", "new"}));
    struct stat info {};
    ASSERT_EQ(::stat(file_.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 07777, 0600U);
    EXPECT_EQ(std::distance(fs::directory_iterator{file_.parent_path()}, fs::directory_iterator{}), 1);
    EXPECT_EQ((*load_config(file_))->token, "new");
}

TEST_F(ClientConfigFile, BothFormsAreReadAndUnknownKeysIgnored) {
    write("[server]\nurl = 'http://a'\ntoken = 't'\ncolour = 'red'\n[more]\n");
    EXPECT_EQ((*load_config(file_))->url, "http://a");
    write("server = 'http://flat'\ntoken = 'f'\n");
    EXPECT_EQ((*load_config(file_))->url, "http://flat");
    EXPECT_EQ((*load_config(file_))->token, "f");
}

TEST_F(ClientConfigFile, MissingIsNotConfiguredAndTheErrorSaysWhatToRun) {
    EXPECT_EQ(*load_config(file_), std::nullopt);
    const auto account = resolve_account({}, environment());
    ASSERT_FALSE(account);
    EXPECT_EQ(account.error().what, "not configured. Run: noid auth setup --url <url> --token <token>");
}

TEST_F(ClientConfigFile, MalformedSaysWhere) {
    write("[server]\nurl = \n");
    const auto syntax = load_config(file_);
    ASSERT_FALSE(syntax);
    EXPECT_THAT(syntax.error().what, HasSubstr("failed to parse config.toml\n\nCaused by:\n    "));
    EXPECT_THAT(syntax.error().what, HasSubstr(":2:"));
    write("[server]\nurl = 'http://a'\n");
    EXPECT_THAT(load_config(file_).error().what, HasSubstr("`token`"));
}

TEST_F(ClientConfigFile, FlagsWinOverVariablesAndTheseOverTheFile) {
    write("[server]\nurl = 'http://file'\ntoken = 'file'\n");
    EXPECT_EQ(resolve_account({}, environment())->server.host, "file");
    variables_["NOID_SERVER"] = "http://variable";
    variables_["NOID_TOKEN"] = "variable";
    EXPECT_EQ(resolve_account({}, environment())->server.host, "variable");
    EXPECT_EQ(resolve_account({}, environment())->token, "variable");
    const auto flags = resolve_account({"http://flag", "flag"}, environment());
    EXPECT_EQ(flags->server.host, "flag");
    EXPECT_EQ(flags->token, "flag");
}

TEST_F(ClientConfigFile, IsNotReadWhenNothingIsMissing) {
    write("this is no TOML");
    EXPECT_TRUE(resolve_account({"http://flag", "flag"}, environment()));
    EXPECT_FALSE(resolve_account({"http://flag", std::nullopt}, environment()));
}

TEST_F(ClientConfigFile, ATokenCannotSmuggleHeaders) {
    const auto account = resolve_account({"http://flag", "a\r\nX-Evil: 1"}, environment());
    ASSERT_FALSE(account);
    EXPECT_THAT(account.error().what, HasSubstr("line break"));
}

TEST_F(ClientConfigFile, WithoutHomeTheErrorSaysSo) {
    variables_.erase("HOME");
    EXPECT_THAT(resolve_account({}, environment()).error().what, HasSubstr("HOME"));
}

}  // namespace
}  // namespace noid::cli
