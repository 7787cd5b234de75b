#include "firecracker/vmm.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/uuid/name_generator_sha1.hpp>
#include <boost/uuid/uuid_io.hpp>
#include <csignal>

#include "base/file.hpp"
#include "firecracker/jail.hpp"
#include "firecracker/kvm_trial.hpp"
#include "firecracker/machine.hpp"
#include "firecracker/process_spec.hpp"
#include "firecracker/version.hpp"
#include "launcher/captured_output.hpp"

namespace noid::firecracker {

using namespace std::chrono_literals;

namespace {

constexpr std::size_t version_limit = 4096;
constexpr auto version_deadline = 30s;  // it takes milliseconds, unless the host is very busy

Awaitable<Result<Version>> ask_version(const std::filesystem::path& program,
                                       const std::optional<launcher::Credentials>& user,
                                       asio::thread_pool& pool) {
    auto output = launcher::CapturedOutput::create(version_limit);
    if (!output) co_return fail(output.error());
    auto writer = output->writer();
    if (!writer) co_return fail(writer.error());
    auto spec = version_spec(program, user);
    spec.descriptors.push_back({STDOUT_FILENO, std::move(*writer)});
    auto start = [&] { return launcher::launch(spec); };
    auto launched = co_await on_pool(pool, start);
    if (!launched)
        co_return fail(std::move(launched.error())
                           .at(user ? "run Firecracker confined, which takes a statically linked one"
                                    : "ask Firecracker for its version"));

    launcher::Process process{co_await asio::this_coro::executor, std::move(*launched)};
    auto wait = [&]() -> Awaitable<Result<launcher::ExitStatus>> { co_return co_await process.exited(); };
    if (const auto status = co_await within(version_deadline, wait()); !status) {
        static_cast<void>(process.signal(SIGKILL));
        co_return fail(Errc::timed_out, "Firecracker does not print its version");
    }
    co_return parse_version(output->text(version_limit));
}

// Guests see what KVM lets through of the host's CPU; hosts whose CPUs say the same can exchange snapshots.
Result<std::string> cpu_fingerprint() {
    const auto text = read_file("/proc/cpuinfo", 16 << 20);
    if (!text) return fail(text.error());
    std::string first = text->substr(0, text->find("\n\n"));
    std::string identity;
    for (std::size_t at = 0; at < first.size();) {
        const auto end = std::min(first.find('\n', at), first.size());
        const std::string_view line{first.data() + at, end - at};
        for (const auto* key : {"vendor_id", "cpu family", "model\t", "stepping", "flags"}) {
            if (line.starts_with(key)) identity.append(line).append("\n");
        }
        at = end + 1;
    }
    const boost::uuids::name_generator_sha1 hash{boost::uuids::ns::oid()};
    return boost::uuids::to_string(hash(identity));
}

class FirecrackerVmm final : public vmm::Vmm {
  public:
    FirecrackerVmm(std::filesystem::path program, std::optional<launcher::UserPool> users,
                   std::shared_ptr<const launcher::Cgroups> cgroups, vmm::Description description,
                   Features features, asio::thread_pool& pool)
        : program_{std::move(program)},
          users_{std::move(users)},
          cgroups_{std::move(cgroups)},
          description_{std::move(description)},
          features_{features},
          pool_{&pool} {}

    [[nodiscard]] const vmm::Description& description() const override { return description_; }

    Awaitable<Result<std::unique_ptr<vmm::Machine>>> start(const vmm::MachineSpec& spec) override {
        auto set_up = [&](Machine& machine) { return machine.boot(spec); };
        co_return co_await launch(spec, set_up);
    }

    Awaitable<Result<std::unique_ptr<vmm::Machine>>> restore(const vmm::MachineSpec& spec,
                                                             const vmm::SnapshotFiles& files,
                                                             Wake wake) override {
        if (users_) {
            const auto directory = open_directory(spec.directory);
            if (!directory) co_return fail(directory.error());
            if (auto sealed = seal(*directory, files); !sealed) co_return fail(std::move(sealed.error()));
        }
        auto set_up = [&](Machine& machine) { return machine.load(spec, files, wake); };
        co_return co_await launch(spec, set_up);
    }

    Awaitable<Result<std::unique_ptr<vmm::Machine>>> adopt(const vmm::MachineSpec& spec,
                                                           ProcessIdentity identity) override {
        const auto executor = co_await asio::this_coro::executor;
        auto process = launcher::Process::adopt(executor, identity);
        if (!process) co_return fail(process.error());
        auto directory = open_directory(spec.directory);
        if (!directory) co_return fail(directory.error());
        auto stdio = StdioFifos::open(executor, *directory);
        if (!stdio && stdio.error().code == Errc::unavailable)
            co_return fail(Errc::not_found, stdio.error().what);
        if (!stdio) co_return fail(stdio.error());
        co_return std::make_unique<Machine>(Machine::Parts{
            .directory = std::move(*directory),
            .memory = spec.memory,
            .features = features_,
            .process = std::move(*process),
            .stdio = std::move(*stdio),
            .user = user_of(identity.pid),
            .cgroup = cgroup_of(identity.pid),
        });
    }

  private:
    // A new process in the VM's directory, set up by `set_up`. Leaves no process behind when that fails.
    template <class SetUp>
    Awaitable<Result<std::unique_ptr<vmm::Machine>>> launch(const vmm::MachineSpec& spec, SetUp& set_up) {
        auto machine = co_await launch_idle(spec);
        if (!machine) co_return fail(machine.error());
        Result<void> done;
        std::exception_ptr thrown;
        try {
            done = co_await (*machine)->api_ready();
            if (done) done = co_await set_up(**machine);
        } catch (...) {
            thrown = std::current_exception();
        }
        if (thrown || !done) {
            co_await ignore_cancellation();
            // The first failure is the one to tell.
            static_cast<void>(co_await (*machine)->kill(0ms));
        }
        if (thrown) std::rethrow_exception(thrown);
        if (!done) co_return fail(std::move(done.error()));
        co_return std::move(*machine);
    }

    Awaitable<Result<std::unique_ptr<Machine>>> launch_idle(const vmm::MachineSpec& spec) {
        const auto executor = co_await asio::this_coro::executor;
        auto directory = open_directory(spec.directory);
        if (!directory) co_return fail(directory.error());
        // Firecracker refuses to bind names that exist.
        for (const auto* name : {api_socket, vsock_socket}) {
            if (::unlinkat(directory->get(), name, 0) != 0 && errno != ENOENT)
                co_return fail_errno(errno, std::string{"cannot remove the old "} + name);
        }
        launcher::UserPool::Lease user;
        if (users_) {
            auto lease = users_->take();
            if (!lease) co_return fail(std::move(lease.error()));
            user = std::move(*lease);
        }
        auto process = process_spec(program_, spec, user ? std::optional{*user} : std::nullopt);
        auto stdio = StdioFifos::create(executor, *directory, process.descriptors);
        if (!stdio) co_return fail(stdio.error());
        if (user) {
            if (auto done = hand_over(*directory, spec, *user); !done)
                co_return fail(std::move(done.error()));
        }
        std::shared_ptr<launcher::Cgroup> cgroup;
        if (user && cgroups_) {
            const auto make = [&] { return cgroups_->make(spec.id, limits_of(spec)); };
            auto made = co_await on_pool(*pool_, make);
            if (!made) co_return fail(std::move(made.error()));
            auto descriptor = made->descriptor();
            if (!descriptor) co_return fail(std::move(descriptor.error()));
            process.cgroup = std::move(*descriptor);
            cgroup = std::make_shared<launcher::Cgroup>(std::move(*made));
        }

        auto run = [&] { return launcher::launch(process); };
        auto launched = co_await on_pool(*pool_, run);
        // Firecracker's ends are its own from here: their closing tells that it has ended.
        process.descriptors.clear();
        if (!launched) co_return fail(std::move(launched.error()).at("start Firecracker"));
        co_return std::make_unique<Machine>(Machine::Parts{
            .directory = std::move(*directory),
            .memory = spec.memory,
            .features = features_,
            .process = launcher::Process{executor, std::move(*launched)},
            .stdio = std::move(*stdio),
            .user = std::move(user),
            .cgroup = std::move(cgroup),
        });
    }

    // Of a process that runs already; none where it is not confined.
    launcher::UserPool::Lease user_of(pid_t pid) {
        struct stat status {};
        const auto path = "/proc/" + std::to_string(pid);
        if (!users_ || ::stat(path.c_str(), &status) != 0) return nullptr;
        auto lease = users_->take(status.st_uid);
        return lease ? std::move(*lease) : nullptr;
    }

    std::shared_ptr<launcher::Cgroup> cgroup_of(pid_t pid) const {
        auto cgroup = cgroups_ ? cgroups_->of_process(pid) : std::nullopt;
        return cgroup ? std::make_shared<launcher::Cgroup>(std::move(*cgroup)) : nullptr;
    }

    std::filesystem::path program_;
    std::optional<launcher::UserPool> users_;
    std::shared_ptr<const launcher::Cgroups> cgroups_;
    vmm::Description description_;
    Features features_;
    asio::thread_pool* pool_;
};

}  // namespace

Awaitable<Result<std::unique_ptr<vmm::Vmm>>> open(Options options, asio::thread_pool& pool) {
    if (const auto found = launcher::find_program(options.program.string()); !found)
        co_return fail(found.error());
    std::optional<launcher::UserPool> users;
    std::optional<launcher::Credentials> trial_user;
    if (options.users) {
        users.emplace(*options.users);
        auto lease = users->take();
        if (!lease) co_return fail(lease.error());
        trial_user = **lease;
    }
    const auto version = co_await ask_version(options.program, trial_user, pool);
    if (!version) co_return fail(version.error());
    const auto features = features_of(*version);
    if (!features) co_return fail(features.error());
    const auto kvm = co_await on_pool(pool, try_kvm);
    if (!kvm) co_return fail(kvm.error());
    auto fingerprint = cpu_fingerprint();
    if (!fingerprint) co_return fail(fingerprint.error());

    vmm::Description description;
    description.kind = vmm::Kind::firecracker;
    description.version = to_string(*version);
    description.accelerator = "kvm";
    description.cpu_fingerprint = std::move(*fingerprint);
    description.connection_outlives_pause = false;
    co_return std::make_unique<FirecrackerVmm>(std::move(options.program), std::move(users),
                                               std::move(options.cgroups), std::move(description), *features,
                                               pool);
}

}  // namespace noid::firecracker
