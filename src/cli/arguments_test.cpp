#include "cli/arguments.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace noid::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

Invocation invocation(std::vector<std::string> arguments) {
    auto parsed = parse_arguments(std::move(arguments));
    if (const auto* notice = std::get_if<Notice>(&parsed)) {
        ADD_FAILURE() << notice->text;
        return {};
    }
    return std::get<Invocation>(std::move(parsed));
}

template <class T>
T command(std::vector<std::string> arguments) {
    auto parsed = invocation(std::move(arguments));
    EXPECT_TRUE(std::holds_alternative<T>(parsed.command));
    const auto* found = std::get_if<T>(&parsed.command);
    return found ? *found : T{};
}

Notice notice(std::vector<std::string> arguments) {
    auto parsed = parse_arguments(std::move(arguments));
    EXPECT_TRUE(std::holds_alternative<Notice>(parsed));
    const auto* found = std::get_if<Notice>(&parsed);
    return found ? *found : Notice{};
}

TEST(Arguments, NoCommandIsTheHelpOnStderrAndExitTwo) {
    const auto help = notice({});
    EXPECT_TRUE(help.is_error);
    EXPECT_EQ(help.exit_code, 2);
    EXPECT_THAT(help.text, HasSubstr("create"));
}

TEST(Arguments, HelpComesAsFlagAndAsCommand) {
    for (const auto& words : std::vector<std::vector<std::string>>{{"--help"},
                                                                   {"-h"},
                                                                   {"help"},
                                                                   {"create", "--help"},
                                                                   {"help", "create"},
                                                                   {"auth", "setup", "-h"}}) {
        const auto help = notice(words);
        EXPECT_FALSE(help.is_error);
        EXPECT_EQ(help.exit_code, 0);
    }
    EXPECT_THAT(notice({"help", "create"}).text, HasSubstr("--cpus"));
}

TEST(Arguments, VersionHasTheProgramsName) {
    EXPECT_THAT(notice({"--version"}).text, testing::MatchesRegex("noid [0-9]+\\.[0-9]+\\.[0-9]+\n"));
    EXPECT_EQ(notice({"-V"}).exit_code, 0);
}

TEST(Arguments, WrongUsageIsAnErrorWithExitTwo) {
    for (const auto& words :
         std::vector<std::vector<std::string>>{{"frobnicate"},
                                               {"create"},
                                               {"create", "a", "--what"},
                                               {"create", "a", "--cpus", "many"},
                                               {"create", "a", "--mem", "some"},
                                               {"auth"},
                                               {"auth", "setup", "--url", "http://x"},
                                               {"exec", "a", "--timeout", "soon", "--", "true"},
                                               {"list", "surplus"},
                                               {"run"},
                                               {"completion", "tcsh"}}) {
        const auto wrong = notice(words);
        EXPECT_TRUE(wrong.is_error) << words.front();
        EXPECT_EQ(wrong.exit_code, 2) << words.front();
        EXPECT_THAT(wrong.text, StartsWith("error: ")) << words.front();
    }
}

TEST(Arguments, CreateHasTheDefaultsOfTheApi) {
    const auto create = command<Create>({"create", "web"});
    EXPECT_EQ(create.name, "web");
    EXPECT_EQ(create.shape.cpus, 1U);
    EXPECT_EQ(create.shape.mem_mib, 2048U);
    const auto large =
        command<Create>({"create", "web", "--cpus", "4", "--mem", "4G", "--disk", "10G", "--port", "8080:80",
                         "--label", "a=b", "--label", "c=d", "-e", "K=V"});
    EXPECT_EQ(large.shape.cpus, 4U);
    EXPECT_EQ(large.shape.mem_mib, 4096U);
    EXPECT_EQ(large.shape.disk_mib, 10240U);
    EXPECT_THAT(large.shape.ports, ElementsAre("8080:80"));
    EXPECT_THAT(large.shape.labels, ElementsAre("a=b", "c=d"));
    EXPECT_THAT(large.shape.env, ElementsAre("K=V"));
}

TEST(Arguments, ExecTakesItsCommandOnlyBehindTheDashes) {
    const auto exec = command<Exec>({"exec", "web", "-e", "A=1", "--", "ls", "-la", "--help", "--", "x"});
    EXPECT_EQ(exec.vm, "web");
    EXPECT_THAT(exec.options.env, ElementsAre("A=1"));
    EXPECT_THAT(exec.options.command, ElementsAre("ls", "-la", "--help", "--", "x"));
    const auto active = command<Exec>({"exec", "-e", "A=1", "-e", "B=2", "--", "true"});
    EXPECT_EQ(active.vm, std::nullopt);
    EXPECT_THAT(active.options.env, ElementsAre("A=1", "B=2"));
    const auto before = command<Exec>({"exec", "-e", "A=1", "web", "--", "true"});
    EXPECT_EQ(before.vm, "web");
    EXPECT_TRUE(command<Exec>({"exec", "web"}).options.command.empty());
}

TEST(Arguments, ExecOptionsAreTyped) {
    const auto exec = command<Exec>({"exec", "-t", "-i", "-w", "/tmp", "-u", "1000:1000", "--timeout", "1.5s",
                                     "--hold", "5m", "--label", "build", "web", "--", "sh"});
    EXPECT_TRUE(exec.options.tty);
    EXPECT_TRUE(exec.options.interactive);
    EXPECT_EQ(exec.options.cwd, "/tmp");
    EXPECT_EQ(exec.options.user, "1000:1000");
    EXPECT_EQ(exec.options.timeout, std::chrono::milliseconds{1500});
    EXPECT_EQ(exec.options.hold, std::chrono::minutes{5});
    EXPECT_EQ(exec.options.label, "build");
}

TEST(Arguments, GlobalOptionsMayStandAnywhere) {
    for (const auto& words :
         std::vector<std::vector<std::string>>{{"--json", "--server", "http://h", "--token", "t", "list"},
                                               {"list", "--json", "--server", "http://h", "--token", "t"}}) {
        const auto parsed = invocation(words);
        EXPECT_TRUE(parsed.json);
        EXPECT_EQ(parsed.account.server, "http://h");
        EXPECT_EQ(parsed.account.token, "t");
    }
    EXPECT_FALSE(invocation({"list"}).json);
}

TEST(Arguments, SetupsTokenIsItsOwnAndNotTheGlobalOne) {
    const auto parsed = invocation({"auth", "setup", "--url", "http://h", "--token", "mine"});
    const auto* setup = std::get_if<AuthSetup>(&parsed.command);
    ASSERT_NE(setup, nullptr);
    EXPECT_EQ(setup->url, "http://h");
    EXPECT_EQ(setup->token, "mine");
}

TEST(Arguments, OneWordOfRestoreAndAttachIsTheSecondOne) {
    const auto alone = command<Restore>({"restore", "0011223344556677"});
    EXPECT_EQ(alone.vm, std::nullopt);
    EXPECT_EQ(alone.checkpoint, "0011223344556677");
    const auto named = command<Restore>({"restore", "web", "base", "--as", "copy"});
    EXPECT_EQ(named.vm, "web");
    EXPECT_EQ(named.checkpoint, "base");
    EXPECT_EQ(named.as, "copy");
    const auto attach = command<Attach>({"attach", "web", "abcd", "--from-stdout", "10"});
    EXPECT_EQ(attach.vm, "web");
    EXPECT_EQ(attach.session, "abcd");
    EXPECT_EQ(attach.have_out, 10U);
    EXPECT_EQ(command<Attach>({"attach", "abcd"}).vm, std::nullopt);
}

TEST(Arguments, CheckpointAloneSavesAndHasCommandsBelowIt) {
    const auto save = command<Checkpoint>({"checkpoint", "web", "base", "--label", "fresh"});
    EXPECT_EQ(save.vm, "web");
    EXPECT_EQ(save.name, "base");
    EXPECT_EQ(save.label, "fresh");
    EXPECT_EQ(command<Checkpoint>({"checkpoint"}).vm, std::nullopt);
    EXPECT_EQ(command<Checkpoint>({"checkpoint", "create", "list"}).vm, "list");
    EXPECT_TRUE(command<Checkpoints>({"checkpoint", "list", "web"}).details);
    EXPECT_FALSE(command<Checkpoints>({"checkpoints", "web"}).details);
    EXPECT_EQ(command<ShowCheckpoint>({"checkpoint", "info", "base"}).checkpoint, "base");
    EXPECT_EQ(command<DeleteCheckpoint>({"checkpoint", "delete", "web", "base"}).vm, "web");
    const auto rename = command<RenameCheckpoint>({"checkpoint", "rename", "web", "base", "better"});
    EXPECT_EQ(rename.vm, "web");
    EXPECT_EQ(rename.checkpoint, "base");
    EXPECT_EQ(rename.name, "better");
    EXPECT_EQ(command<RenameCheckpoint>({"checkpoint", "rename", "base", ""}).name, "");
    const auto prune =
        command<PruneCheckpoints>({"checkpoint", "prune", "--keep", "3", "--older-than", "7d"});
    EXPECT_EQ(prune.keep, 3U);
    EXPECT_EQ(prune.older_than, std::chrono::days{7});
    EXPECT_EQ(command<ExportCheckpoint>({"checkpoint", "export", "web", "base", "-o", "-"}).file, "-");
    EXPECT_EQ(command<ImportCheckpoint>({"checkpoint", "import", "web", "-i", "file", "--name", "n"}).name,
              "n");
}

TEST(Arguments, TheServersOwnTimerIsSetByTheSameCommands) {
    const auto every = command<Checkpoint>({"checkpoint", "web", "--every", "5m", "--keep", "10"});
    ASSERT_TRUE(every.every);
    EXPECT_EQ(every.every->length, std::chrono::minutes{5});
    EXPECT_EQ(every.keep, 10U);
    EXPECT_EQ(command<Checkpoint>({"checkpoint", "--every", "off"}).every->length, std::nullopt);
    EXPECT_EQ(notice({"checkpoint", "--keep", "3"}).exit_code, 2);
    EXPECT_EQ(command<Suspend>({"suspend", "web", "--idle", "10m"}).idle->length, std::chrono::minutes{10});
    EXPECT_EQ(command<Create>({"create", "web", "--idle-suspend", "10m"}).shape.idle_suspend->length,
              std::chrono::minutes{10});
}

TEST(Arguments, RulesKeepTheOrderInWhichTheyStand) {
    using enum wire::NetworkRule::Action;
    const auto policy =
        command<Policy>({"policy", "web", "--mode", "egress", "--allow", "*.debian.org:80,443", "--deny", "*",
                         "--allow", "tcp:10.0.0.0/8", "--upload", "1M", "--clear"});
    EXPECT_EQ(policy.vm, "web");
    EXPECT_EQ(policy.options.mode, "egress");
    ASSERT_EQ(policy.options.rules.size(), 3U);
    EXPECT_EQ(policy.options.rules[0].action, allow);
    EXPECT_THAT(policy.options.rules[0].ports, ElementsAre("80", "443"));
    EXPECT_EQ(policy.options.rules[1].action, deny);
    EXPECT_EQ(policy.options.rules[1].to, "*");
    EXPECT_EQ(policy.options.rules[2].protocol, "tcp");
    EXPECT_EQ(policy.options.upload, 1'000'000U);
    EXPECT_EQ(policy.options.download, std::nullopt);
    EXPECT_TRUE(policy.clear);
    EXPECT_FALSE(command<Policy>({"policy"}).options.any());
    const auto create =
        command<Create>({"create", "web", "--network", "egress", "--allow", "example.com", "--boot"});
    EXPECT_EQ(create.shape.network.mode, "egress");
    EXPECT_EQ(create.shape.network.rules.size(), 1U);
    EXPECT_TRUE(create.shape.boot);
}

TEST(Arguments, PortsAreExposedByNumber) {
    const auto expose = command<Expose>({"expose", "web", "80", "--host", "8080", "--public"});
    EXPECT_EQ(expose.vm, "web");
    EXPECT_EQ(expose.port, 80);
    EXPECT_EQ(expose.host, 8080);
    EXPECT_TRUE(expose.is_public);
    EXPECT_EQ(command<Expose>({"expose", "80"}).vm, std::nullopt);
    EXPECT_EQ(command<Unexpose>({"unexpose", "web", "80"}).port, 80);
    EXPECT_EQ(command<Ports>({"ports", "web"}).vm, "web");
    for (const auto& words : std::vector<std::vector<std::string>>{
             {"expose", "web", "0"}, {"expose", "http"}, {"expose"}, {"policy", "--allow", "a:b:c"}})
        EXPECT_EQ(notice(words).exit_code, 2);
}

TEST(Arguments, DescriptionsNameEveryCommandAndItsOptions) {
    const auto all = describe_commands();
    const auto find = [&](const std::vector<std::string>& path) {
        return std::ranges::find(all, path, &CommandDescription::path);
    };
    ASSERT_NE(find({"auth", "setup"}), all.end());
    const auto exec = find({"exec"});
    ASSERT_NE(exec, all.end());
    EXPECT_TRUE(exec->takes_vm);
    const auto env = std::ranges::find_if(
        exec->options, [](const auto& option) { return std::ranges::count(option.names, "--env") > 0; });
    ASSERT_NE(env, exec->options.end());
    EXPECT_TRUE(env->takes_value);
    EXPECT_THAT(env->names, ElementsAre("-e", "--env"));
    EXPECT_FALSE(find({"create"})->takes_vm);  // the name of a VM that is not there yet
    for (const auto* name : {"use", "attach", "restore", "forward"})
        EXPECT_TRUE(find({name})->takes_vm) << name;
}

}  // namespace
}  // namespace noid::cli
