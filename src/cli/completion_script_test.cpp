#include "cli/completion_script.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace noid::cli {
namespace {

using testing::HasSubstr;
using testing::Not;

std::vector<CommandDescription> example() {
    return {
        {.path = {}, .description = "program", .options = {{{"--json"}, "JSON", false}}, .takes_vm = false},
        {.path = {"auth"}, .description = "account", .options = {}, .takes_vm = false},
        {.path = {"auth", "setup"},
         .description = "it's saved",
         .options = {{{"--url"}, "where", true}},
         .takes_vm = false},
        {.path = {"exec"},
         .description = "run",
         .options = {{{"-e", "--env"}, "variable", true}},
         .takes_vm = true},
    };
}

TEST(CompletionScript, BashKnowsCommandsBelowCommands) {
    const auto script = completion_script("bash", example());
    EXPECT_THAT(script, HasSubstr("'auth' | 'auth setup' | 'exec')"));
    EXPECT_THAT(script, HasSubstr("'') words='auth exec --json' vm=0"));
    EXPECT_THAT(script, HasSubstr("'auth setup') words='--url' vm=0"));
    EXPECT_THAT(script, HasSubstr("'exec') words='-e --env' vm=1"));
    EXPECT_THAT(script, HasSubstr("complete -o default -F _noid noid"));
}

TEST(CompletionScript, ZshHasDescriptions) {
    const auto script = completion_script("zsh", example());
    EXPECT_THAT(script, HasSubstr("#compdef noid\n"));
    EXPECT_THAT(script, HasSubstr(R"('setup:it'\''s saved')"));
    EXPECT_THAT(script, HasSubstr("'--env:variable'"));
}

TEST(CompletionScript, FishQuotesInItsOwnWay) {
    const auto script = completion_script("fish", example());
    EXPECT_THAT(script, HasSubstr(R"(-a setup -d 'it\'s saved')"));
    EXPECT_THAT(script, HasSubstr("-s e -l env -r -d 'variable'"));
    EXPECT_THAT(script,
                HasSubstr("'__fish_seen_subcommand_from auth; and __fish_seen_subcommand_from setup'"));
}

TEST(CompletionScript, NoMarkOfATemplateIsLeft) {
    for (const auto* shell : {"bash", "zsh", "fish"}) {
        const auto script = completion_script(shell, describe_commands());
        EXPECT_THAT(script, Not(HasSubstr("@PLACES@"))) << shell;
        EXPECT_THAT(script, Not(HasSubstr("@CASES@"))) << shell;
    }
}

}  // namespace
}  // namespace noid::cli
