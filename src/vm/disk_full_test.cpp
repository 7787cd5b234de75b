// Operations on a data directory that is full: a small tmpfs, with any few pages of it left.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <fstream>
#include <functional>
#include <vector>

#include "base/file.hpp"
#include "vm/testing/engine_world.hpp"

namespace noid::vm {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t page = 4096;

class DiskFullTest : public EngineWorld {
  protected:
    void SetUp() override {
        fs::create_directory(config_.paths.data_dir);
        // For this thread and those that it starts.
        if (::unshare(CLONE_NEWNS) != 0) GTEST_SKIP() << "no mount namespace for an unprivileged user";
        ASSERT_EQ(::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
        ASSERT_EQ(::mount("disk", config_.paths.data_dir.c_str(), "tmpfs", 0, "size=16m"), 0);
        mounted_ = true;
    }
    void TearDown() override {
        engine_.reset();
        if (mounted_) ::umount2(config_.paths.data_dir.c_str(), MNT_DETACH);
    }

    // Takes all space but so many pages.
    void leave(std::size_t pages) {
        const auto file = open_file(filler(), O_WRONLY | O_CREAT | O_TRUNC);
        ASSERT_TRUE(file);
        const std::string bytes(page, 'x');
        std::size_t written = 0;
        while (::write(file->get(), bytes.data(), bytes.size()) == static_cast<ssize_t>(page)) ++written;
        ASSERT_GT(written, pages);
        ASSERT_EQ(::ftruncate(file->get(), static_cast<off_t>((written - pages) * page)), 0);
    }
    void make_room() { fs::remove(filler()); }
    [[nodiscard]] fs::path filler() const { return config_.paths.data_dir / "filler"; }

    static std::shared_ptr<Vm> web(const std::shared_ptr<Tenant>& tenant) {
        return tenant->find(VmName::parse("web").value()).value();
    }

    void expect_no_remains() {
        for (const char* place : {"vms", "checkpoints"}) {
            for (const auto& entry : fs::recursive_directory_iterator{user_directory() / place}) {
                const std::string name = entry.path().filename().string();
                EXPECT_FALSE(name.starts_with('.') || name.starts_with("saving.")) << entry.path();
            }
        }
    }

    // Does it with ever more space, until it works. Every time it does not, the VM runs as before and nothing
    // of it is left. Gives how often it failed.
    using Operation = std::function<Awaitable<Result<void>>(std::shared_ptr<Tenant>)>;
    Awaitable<std::size_t> until_it_works(std::shared_ptr<Tenant> tenant, Operation operation) {
        std::size_t failures = 0;
        for (std::size_t pages = 0; pages < 300; pages += pages < 40 ? 1 : 10) {
            leave(pages);
            const std::size_t processes = alive();
            const std::size_t vms = tenant->list().size();
            const auto before = co_await tenant->checkpoints().list(VmName::parse("web").value());
            auto done = co_await operation(tenant);
            if (done) {
                make_room();
                co_return failures;
            }
            ++failures;
            EXPECT_EQ(done.error().code, Errc::no_space) << pages << " pages: " << done.error().full();
            EXPECT_EQ(web(tenant)->view().state, State::running) << pages << " pages";
            EXPECT_EQ(tenant->list().size(), vms);
            EXPECT_EQ(alive(), processes);
            const auto after = co_await tenant->checkpoints().list(VmName::parse("web").value());
            EXPECT_EQ(after->size(), before->size());
            expect_no_remains();
            EXPECT_TRUE(co_await web(tenant)->ready(std::chrono::seconds{1}));
        }
        ADD_FAILURE() << "it never worked";
        co_return failures;
    }

    bool mounted_ = false;
};

TEST_F(DiskFullTest, EveryOperationFailsWholeAndWorksWhenThereIsSpace) {
    run([this]() -> Awaitable<void> {
        co_await open();
        auto ann = co_await tenant();
        EXPECT_TRUE(co_await ann->create(request("web")));
        EXPECT_TRUE(co_await web(ann)->checkpoint(CheckpointRequest{"good", ""}));

        auto create = [](std::shared_ptr<Tenant> tenant) -> Awaitable<Result<void>> {
            auto made = co_await tenant->create(request("other"));
            if (!made) co_return fail(std::move(made.error()));
            co_return Result<void>{};
        };
        EXPECT_GT(co_await until_it_works(ann, create), 0u);
        EXPECT_TRUE(co_await ann->destroy(VmName::parse("other").value()));

        auto checkpoint = [](std::shared_ptr<Tenant> tenant) -> Awaitable<Result<void>> {
            auto made = co_await web(tenant)->checkpoint(CheckpointRequest{});
            if (!made) co_return fail(std::move(made.error()));
            co_return Result<void>{};
        };
        EXPECT_GT(co_await until_it_works(ann, checkpoint), 0u);

        auto fork = [](std::shared_ptr<Tenant> tenant) -> Awaitable<Result<void>> {
            ForkRequest two{std::size_t{2}};
            auto made = co_await tenant->checkpoints().fork(VmName::parse("web").value(), std::move(two));
            if (!made) co_return fail(std::move(made.error()));
            co_return Result<void>{};
        };
        EXPECT_GT(co_await until_it_works(ann, fork), 0u);

        auto suspend = [](std::shared_ptr<Tenant> tenant) -> Awaitable<Result<void>> {
            co_return co_await web(tenant)->suspend();
        };
        EXPECT_GT(co_await until_it_works(ann, suspend), 0u);
        EXPECT_TRUE(co_await web(ann)->resume());

        auto restore = [](std::shared_ptr<Tenant> tenant) -> Awaitable<Result<void>> {
            RestoreRequest good{"good"};
            auto made = co_await tenant->checkpoints().restore(VmName::parse("web").value(), std::move(good));
            if (!made) co_return fail(std::move(made.error()));
            co_return Result<void>{};
        };
        EXPECT_GT(co_await until_it_works(ann, restore), 0u);

        // Destroying is what makes room: it works on a full disk too.
        leave(0);
        EXPECT_TRUE((co_await ann->destroy(VmName::parse("web").value())).value());
        make_room();
        for (const VmView& left : ann->list())
            EXPECT_TRUE((co_await ann->destroy(VmName::parse(left.name).value())).value());
        ann.reset();
        co_await close();
        // What could not be concluded in the journal is when the server starts.
        co_await open();
        expect_nothing_left();
        co_await close();
    });
}

}  // namespace
}  // namespace noid::vm
