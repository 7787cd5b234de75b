#include "firecracker/vmm.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <boost/uuid/name_generator_sha1.hpp>
#include <boost/uuid/uuid_io.hpp>
#include <csignal>

#include "base/file.hpp"
#include "firecracker/machine.hpp"
#include "firecracker/version.hpp"
#include "launcher/captured_output.hpp"
#include "vmm/directory_access.hpp"

namespace noid::firecracker {

using namespace std::chrono_literals;

namespace {

constexpr std::size_t version_limit = 4096;
constexpr auto version_deadline = 30s;  // it takes milliseconds, unless the host is very busy

Awaitable<Result<Version>> ask_version(vmm::Warden& warden, asio::thread_pool& pool) {
    auto output = launcher::CapturedOutput::create(version_limit);
    if (!output) co_return fail(output.error());
    auto writer = output->writer();
    if (!writer) co_return fail(writer.error());
    vmm::ProcessRequest request;
    request.program = vmm::FirecrackerVersion{};
    request.descriptors.push_back({STDOUT_FILENO, std::move(*writer)});
    auto start = [&] { return warden.start(std::move(request)); };
    auto launched = co_await on_pool(pool, start);
    if (!launched)
        co_return fail(std::move(launched.error())
                           .at(warden.confines()
                                   ? "run Firecracker confined, which takes a statically linked one"
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

Result<void> seal(const Fd& directory, const vmm::SnapshotFiles& files) {
    if (auto done = vmm::seal(directory, files.memory); !done) return done;
    return vmm::seal(directory, files.state);
}

class FirecrackerVmm final : public vmm::Vmm {
  public:
    FirecrackerVmm(std::shared_ptr<vmm::Warden> warden, vmm::Description description, Features features,
                   asio::thread_pool& pool)
        : warden_{std::move(warden)},
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
        if (warden_->confines()) {
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
        const auto take_over = [&] { return warden_->adopt(identity, spec.directory); };
        auto process = co_await on_pool(*pool_, take_over);
        if (!process) co_return fail(std::move(process.error()));
        auto directory = open_directory(spec.directory);
        if (!directory) co_return fail(directory.error());
        auto stdio = StdioFifos::open(executor, *directory);
        if (!stdio && stdio.error().code == Errc::unavailable)
            co_return fail(Errc::not_found, stdio.error().what);
        if (!stdio) co_return fail(stdio.error());
        auto metrics = MetricsFifo::open(*directory);
        co_return std::make_unique<Machine>(Machine::Parts{
            .pool = *pool_,
            .warden = warden_,
            .directory = std::move(*directory),
            .memory = spec.memory,
            .layout = spec.layout,
            .features = features_,
            .process = launcher::Process{executor, std::move(*process)},
            .stdio = std::move(*stdio),
            .metrics = metrics ? std::move(*metrics) : MetricsFifo{},
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
        vmm::ProcessRequest request;
        request.spec = spec;
        request.program = vmm::FirecrackerStart{};
        auto stdio = StdioFifos::create(executor, *directory, request.descriptors);
        if (!stdio) co_return fail(stdio.error());
        auto metrics = MetricsFifo::open(*directory);
        if (!metrics) co_return fail(std::move(metrics.error()));
        // Firecracker's ends go with the request: their closing tells that it has ended.
        auto run = [&] { return warden_->start(std::move(request)); };
        auto launched = co_await on_pool(*pool_, run);
        if (!launched) co_return fail(std::move(launched.error()).at("start Firecracker"));
        co_return std::make_unique<Machine>(Machine::Parts{
            .pool = *pool_,
            .warden = warden_,
            .directory = std::move(*directory),
            .memory = spec.memory,
            .layout = spec.layout,
            .features = features_,
            .process = launcher::Process{executor, std::move(*launched)},
            .stdio = std::move(*stdio),
            .metrics = std::move(*metrics),
        });
    }

    std::shared_ptr<vmm::Warden> warden_;
    vmm::Description description_;
    Features features_;
    asio::thread_pool* pool_;
};

}  // namespace

Awaitable<Result<std::unique_ptr<vmm::Vmm>>> open(std::shared_ptr<vmm::Warden> warden,
                                                  asio::thread_pool& pool) {
    const auto version = co_await ask_version(*warden, pool);
    if (!version) co_return fail(version.error());
    const auto features = features_of(*version);
    if (!features) co_return fail(features.error());
    if (const auto& kvm = warden->devices().kvm; !kvm) co_return fail(kvm.error());
    auto fingerprint = cpu_fingerprint();
    if (!fingerprint) co_return fail(fingerprint.error());

    vmm::Description description;
    description.kind = vmm::Kind::firecracker;
    description.version = to_string(*version);
    description.accelerator = "kvm";
    description.cpu_fingerprint = std::move(*fingerprint);
    description.connection_outlives_pause = false;
    co_return std::make_unique<FirecrackerVmm>(std::move(warden), std::move(description), *features, pool);
}

}  // namespace noid::firecracker
