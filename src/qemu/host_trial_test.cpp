#include "qemu/host_trial.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <functional>

#include "launcher/process.hpp"
#include "privileged/local_warden.hpp"
#include "qemu/process_spec.hpp"
#include "qemu/qemu.hpp"

namespace noid::qemu {
namespace {

using testing::HasSubstr;

constexpr auto qemu_program = "qemu-system-x86_64";

class HostTrialTest : public testing::Test {
  protected:
    static std::shared_ptr<vmm::Warden> warden(const char* program) {
        return std::move(*privileged::LocalWarden::open({.qemu = program}));
    }
    void run(const std::function<Awaitable<void>()>& body) {
        std::exception_ptr thrown;
        asio::co_spawn(loop_, body(), [&](std::exception_ptr e) { thrown = e; });
        loop_.run();
        if (thrown) std::rethrow_exception(thrown);
    }

    asio::io_context loop_;
    asio::thread_pool pool_{1};
};

TEST_F(HostTrialTest, RefusesWhatIsNoQemu) {
    run([this]() -> Awaitable<void> {
        EXPECT_EQ((co_await version_of(pool_, *warden("/bin/true"))).error().code, Errc::unsupported);
        const Options options{.warden = warden("no-such-qemu")};
        EXPECT_EQ((co_await create(pool_, options)).error().code, Errc::not_found);
    });
}

TEST_F(HostTrialTest, BelievesOnlyAGuestThatRan) {
    run([this]() -> Awaitable<void> {
        // A program that ends well without having run the guest proves nothing.
        const auto tried = co_await try_kvm(pool_, *warden("/bin/true"));
        EXPECT_FALSE(tried);
        EXPECT_EQ(tried.error().code, Errc::unavailable);
    });
}

// Emulated, because not every host has KVM: what is tried is that such a QEMU finds all it needs where it is.
TEST_F(HostTrialTest, TheTrialGuestRunsConfinedAndNot) {
    const auto program = launcher::find_program(qemu_program);
    ASSERT_TRUE(program);
    std::vector<std::optional<launcher::Credentials>> users{std::nullopt};
    if (::geteuid() == 0) users.emplace_back(launcher::Credentials{64'001, 64'001});
    for (const auto& user : users) {
        auto spec = trial_spec(*program, user);
        ASSERT_TRUE(spec);
        std::ranges::replace(spec->arguments, "kvm", "tcg");
        std::ranges::replace(spec->arguments, "host", "max");
        run([&]() -> Awaitable<void> {
            auto launched = launcher::launch(*spec);
            EXPECT_TRUE(launched) << launched.error().full();
            if (!launched) co_return;
            launcher::Process process{loop_.get_executor(), std::move(*launched)};
            const auto status = co_await process.exited();
            EXPECT_EQ(status, (launcher::ExitStatus{launcher::ExitStatus::How::exited, trial_exit_status}));
        });
        loop_.restart();
    }
}

TEST_F(HostTrialTest, DescribesTheVmm) {
    run([this]() -> Awaitable<void> {
        const Options options{.accelerate = Options::Accelerate::tcg, .warden = warden(qemu_program)};
        const auto vmm = co_await create(pool_, options);
        EXPECT_TRUE(vmm) << vmm.error().what;
        if (!vmm) co_return;
        const auto& description = (*vmm)->description();
        EXPECT_EQ(description.kind, vmm::Kind::qemu);
        EXPECT_EQ(description.accelerator, "tcg");
        EXPECT_THAT(description.version, testing::MatchesRegex("[0-9]+\\.[0-9]+\\.[0-9]+"));
        EXPECT_EQ(description.cpu_fingerprint, fingerprint(description.version, "tcg", ""));
    });
}

TEST_F(HostTrialTest, MeasuresTheTimeStampCounter) {
    run([this]() -> Awaitable<void> {
        const auto first = static_cast<double>(co_await measure_tsc_khz());
        const auto second = static_cast<double>(co_await measure_tsc_khz());
        EXPECT_GT(first, 500e3);
        EXPECT_NEAR(first / second, 1.0, 0.001);
    });
}

TEST(Fingerprint, TellsHostsApart) {
    const std::string cpuinfo =
        "processor\t: 0\nvendor_id\t: A\ncpu family\t: 6\nmodel\t\t: 1\nmodel name\t: X\ncpu MHz\t\t: 1\n"
        "flags\t\t: fpu sse\n\nprocessor\t: 1\nvendor_id\t: B\n";
    const auto identity = cpu_identity(cpuinfo);
    EXPECT_THAT(identity, HasSubstr("fpu sse"));
    EXPECT_THAT(identity, testing::Not(HasSubstr("MHz")));
    EXPECT_THAT(identity, testing::Not(HasSubstr("B")));
    EXPECT_EQ(fingerprint("7.2", "kvm", identity), fingerprint("7.2", "kvm", identity));
    EXPECT_NE(fingerprint("7.2", "kvm", identity), fingerprint("7.2", "kvm", identity + "x"));
    EXPECT_NE(fingerprint("7.2", "kvm", ""), fingerprint("7.2", "tcg", ""));
    EXPECT_EQ(fingerprint("7.2", "kvm", "").size(), 32U);
}

}  // namespace
}  // namespace noid::qemu
