#include "qemu/machine.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/write.hpp>
#include <charconv>
#include <csignal>
#include <utility>

#include "base/file.hpp"
#include "base/unix_socket.hpp"
#include "qemu/preload/preload.hpp"
#include "vmm/directory_access.hpp"

namespace noid::qemu {

namespace json = boost::json;
using namespace std::chrono_literals;

namespace {

constexpr auto control_socket = "control.sock";
constexpr auto agent_socket = "agent.sock";
constexpr auto console_socket = "console.sock";
constexpr int backlog = 16;  // connections that QEMU has not accepted yet

constexpr auto start_limit = 30s;
constexpr std::size_t max_output = 16 * 1024;
constexpr std::size_t max_last_words = 1000;
constexpr std::size_t max_device_state = 16 << 20;
constexpr std::size_t max_console_read = 64 * 1024;

struct Prepared {
    Fd directory;
    launcher::CapturedOutput output;
    vmm::ProcessRequest request;
};

Result<Prepared> prepare(const Host& host, const vmm::MachineSpec& spec, const Beginning& beginning,
                         const std::string& state_file, bool confined) {
    auto directory = open_directory(spec.directory);
    if (!directory) return fail(std::move(directory.error()));
    auto output = launcher::CapturedOutput::create(max_output);
    if (!output) return fail(std::move(output.error()));

    vmm::ProcessRequest request;
    request.spec = spec;
    request.program = vmm::QemuStart{.kvm = host.accelerator == Accelerator::kvm,
                                     .tsc_khz = host.tsc_khz,
                                     .vhost_net = host.vhost_net,
                                     .memory_file = beginning.memory_file,
                                     .paused = beginning.wake == vmm::Vmm::Wake::paused};
    const InheritedNumbers numbers;
    // Made here and inherited, so that they can be connected to at once: nobody waits for QEMU to make them.
    for (const auto& [number, name] : {std::pair{numbers.control, control_socket},
                                       {numbers.agent, agent_socket},
                                       {numbers.console, console_socket}}) {
        auto listener = listen_unix_at(*directory, name, backlog);
        if (!listener) return fail(std::move(listener.error()));
        request.descriptors.push_back({number, std::move(*listener)});
    }
    if (beginning.memory_file) {
        auto state = open_file_at(*directory, state_file, O_RDONLY);
        if (!state) return fail(std::move(state.error()));
        request.descriptors.push_back({numbers.state, std::move(*state)});
    }
    for (const int number : {1, 2}) {
        auto writer = output->writer();
        if (!writer) return fail(std::move(writer.error()));
        request.descriptors.push_back({number, std::move(*writer)});
    }
    if (beginning.memory_file && confined) {
        if (auto sealed = vmm::seal(*directory, *beginning.memory_file); !sealed)
            return fail(std::move(sealed.error()));
    }
    if (auto put = put_preload(*directory); !put) return fail(std::move(put.error()));
    return Prepared{std::move(*directory), std::move(*output), std::move(request)};
}

Result<std::string> read_whole(const Fd& file, std::size_t limit) {
    struct stat status {};
    if (::fstat(file.get(), &status) != 0) return fail_errno(errno, "cannot examine the device state");
    const auto size = static_cast<std::size_t>(status.st_size);
    if (size == 0 || size > limit) return fail(Errc::corrupt, "the device state has no plausible size");
    std::string content(size, '\0');
    const ssize_t got = ::pread(file.get(), content.data(), content.size(), 0);
    if (got != status.st_size) return fail_errno(got < 0 ? errno : EIO, "cannot read the device state");
    return content;
}

std::string text_of(const json::value& object, std::string_view key) {
    const auto* fields = object.if_object();
    const auto* value = fields ? fields->if_contains(key) : nullptr;
    const auto* text = value ? value->if_string() : nullptr;
    return text ? std::string{*text} : std::string{};
}

// "Host virtual address for 0x0 (memory) is 0x7f00e3e00000"
Result<std::uint64_t> address_in(const json::value& answer) {
    const auto* text = answer.if_string();
    std::string_view words = text ? std::string_view{*text} : std::string_view{};
    const auto found = words.rfind("0x");
    std::uint64_t address = 0;
    if (found == std::string_view::npos)
        return fail(Errc::corrupt, "QEMU does not tell where the guest's memory is");
    words.remove_prefix(found + 2);
    if (std::from_chars(words.data(), words.data() + words.size(), address, 16).ec != std::errc{})
        return fail(Errc::corrupt, "QEMU does not tell where the guest's memory is");
    return address;
}

}  // namespace

// Holds a machine until its start has succeeded; else, also when the start was cancelled, ends its process.
class Machine::Unfinished {
  public:
    explicit Unfinished(std::unique_ptr<Machine> machine) noexcept : machine_{std::move(machine)} {}
    Unfinished(const Unfinished&) = delete;
    Unfinished& operator=(const Unfinished&) = delete;
    ~Unfinished() {
        if (!machine_) return;
        const std::shared_ptr<launcher::Process> process{std::move(machine_->process_)};
        // Fails only if it has ended already. Nobody waits for its end, but it has to be reaped.
        [[maybe_unused]] const auto killed = process->signal(SIGKILL);
        asio::co_spawn(machine_->executor_, process->exited(),
                       [process](std::exception_ptr, launcher::ExitStatus) {});
    }
    [[nodiscard]] Machine& machine() const noexcept { return *machine_; }
    [[nodiscard]] std::unique_ptr<vmm::Machine> finish() noexcept { return std::move(machine_); }

  private:
    std::unique_ptr<Machine> machine_;
};

Machine::Machine(asio::any_io_executor executor, asio::thread_pool& pool, std::shared_ptr<vmm::Warden> warden,
                 vmm::MachineSpec spec, Fd directory, std::unique_ptr<launcher::Process> process,
                 std::optional<launcher::CapturedOutput> output, GuestMemory::Past past)
    : executor_{std::move(executor)},
      pool_{pool},
      warden_{std::move(warden)},
      spec_{std::move(spec)},
      directory_{std::move(directory)},
      process_{std::move(process)},
      output_{std::move(output)},
      past_{past} {}

Awaitable<Result<std::unique_ptr<vmm::Machine>>> Machine::launch(asio::thread_pool& pool,
                                                                 std::shared_ptr<vmm::Warden> warden,
                                                                 Host host, vmm::MachineSpec spec,
                                                                 Beginning beginning,
                                                                 std::string state_file) {
    const auto executor = co_await asio::this_coro::executor;
    std::optional<Prepared> prepared;
    const auto start = [&]() -> Result<launcher::Launched> {
        auto made = prepare(host, spec, beginning, state_file, warden->confines());
        if (!made) return fail(std::move(made.error()));
        prepared = std::move(*made);
        // Our own ends of the listening sockets go with the request, so that connections break when QEMU
        // does.
        return warden->start(std::move(prepared->request));
    };
    auto launched = co_await on_pool(pool, start);
    if (!launched) co_return fail(std::move(launched.error()));

    auto process = std::make_unique<launcher::Process>(executor, std::move(*launched));
    Unfinished unfinished{std::unique_ptr<Machine>{
        new Machine{executor, pool, std::move(warden), std::move(spec), std::move(prepared->directory),
                    std::move(process), std::move(prepared->output), GuestMemory::Past::none}}};
    Machine& machine = unfinished.machine();
    auto ready = co_await machine.attach();
    if (ready) ready = co_await machine.set_up_devices(beginning.memory_file ? MiB{} : machine.spec_.balloon);
    if (ready && beginning.memory_file) ready = co_await machine.await_state();
    if (!ready) {
        auto error = std::move(ready.error()).at("start QEMU");
        if (const auto words = machine.last_words(); !words.empty()) error.what += ": " + words;
        co_return fail(std::move(error));
    }
    co_return unfinished.finish();
}

Awaitable<Result<std::unique_ptr<vmm::Machine>>> Machine::adopt(asio::thread_pool& pool,
                                                                std::shared_ptr<vmm::Warden> warden,
                                                                vmm::MachineSpec spec,
                                                                ProcessIdentity identity) {
    const auto executor = co_await asio::this_coro::executor;
    std::optional<launcher::CapturedOutput> output;
    const auto take_over = [&]() -> Result<launcher::Launched> {
        auto process = warden->adopt(identity, spec.directory);
        if (!process) return process;
        if (auto files = warden->files_of(identity); files && files->output) {
            if (auto captured = launcher::CapturedOutput::over(std::move(files->output)))
                output = std::move(*captured);
        }
        return process;
    };
    auto process = co_await on_pool(pool, take_over);
    if (!process) co_return fail(std::move(process.error()));
    auto directory = open_directory(spec.directory);
    if (!directory) co_return fail(std::move(directory.error()));
    std::unique_ptr<Machine> machine{
        new Machine{executor, pool, std::move(warden), std::move(spec), std::move(*directory),
                    std::make_unique<launcher::Process>(executor, std::move(*process)), std::move(output),
                    GuestMemory::Past::unknown}};
    if (auto attached = co_await machine->attach(); !attached)
        co_return fail(std::move(attached.error()).at("take over QEMU"));
    if (machine->paused_) {
        // It may have been saved in this pause, and nothing tells: a moment of running makes it savable
        // again.
        if (auto moved = co_await machine->resume(); !moved) co_return fail(std::move(moved.error()));
        if (auto stopped = co_await machine->pause(); !stopped) co_return fail(std::move(stopped.error()));
    }
    co_return std::unique_ptr<vmm::Machine>{std::move(machine)};
}

Awaitable<Result<void>> Machine::attach() {
    auto console = co_await connect_unix_at(directory_, console_socket);
    if (!console) co_return fail(std::move(console.error()));
    console_ = std::move(*console);
    auto control = co_await connect_unix_at(directory_, control_socket);
    if (!control) co_return fail(std::move(control.error()));
    QmpClient::OnEvent on_event = [this](const QmpEvent& event) { note(event); };
    auto client = co_await QmpClient::connect(std::move(*control), std::move(on_event), start_limit);
    if (!client) co_return fail(std::move(client.error()));
    control_ = std::move(*client);
    co_return co_await query_status();
}

Awaitable<Result<void>> Machine::query_status() {
    auto answer = co_await control_->execute("query-status", {}, command_limit);
    if (!answer) co_return fail(std::move(answer.error()));
    status_ = text_of(*answer, "status");
    paused_ = status_ != "running";
    co_return Result<void>{};
}

Awaitable<Result<void>> Machine::await_state() {
    while (status_ == "inmigrate") {
        // The event may have come before this connection: QEMU's run state decides, the event only wakes.
        state_read_ = false;
        if (auto asked = co_await query_status(); !asked) co_return fail(std::move(asked.error()));
        if (status_ != "inmigrate") break;
        const std::function<bool()> read = [this] { return state_read_; };
        if (auto done = co_await control_->wait_until(read, start_limit); !done)
            co_return fail(std::move(done.error()));
    }
    co_return Result<void>{};
}

void Machine::note(const QmpEvent& event) {
    if (event.name == "STOP") paused_ = true;
    if (event.name == "RESUME") {
        paused_ = false;
        device_state_.clear();
    }
    if (event.name == "SHUTDOWN") shutdown_reason_ = text_of(event.data, "reason");
    if (event.name == "MIGRATION") {
        const auto status = text_of(event.data, "status");
        state_read_ = status == "completed" || status == "failed";
    }
}

Awaitable<Result<asio::local::stream_protocol::socket>> Machine::connect_agent() {
    // QEMU serves one connection at a time: it must see the end of the old one to accept the next.
    if (agent_) ::shutdown(agent_.get(), SHUT_RDWR);
    agent_.reset();
    auto socket = co_await connect_unix_at(directory_, agent_socket);
    if (!socket) co_return fail(std::move(socket.error()));
    agent_ = Fd{::fcntl(socket->native_handle(), F_DUPFD_CLOEXEC, 3)};
    if (!agent_) co_return fail_errno(errno, "cannot copy a descriptor");
    co_return std::move(socket);
}

Awaitable<Result<void>> Machine::pause() {
    if (paused_) co_return fail(Errc::conflict, "the machine is not running");
    // Most pauses are there to save: what that needs to know is asked while the guest still runs.
    if (auto found = co_await find_memory(); !found) co_return fail(std::move(found.error()));
    auto done = co_await control_->execute("stop", {}, command_limit);
    if (!done) co_return fail(std::move(done.error()));
    co_return Result<void>{};
}

Awaitable<Result<void>> Machine::resume() {
    if (!paused_) co_return fail(Errc::conflict, "the machine is running");
    auto done = co_await control_->execute("cont", {}, command_limit);
    if (!done) co_return fail(std::move(done.error()));
    co_return Result<void>{};
}

Awaitable<Result<void>> Machine::find_memory() {
    if (memory_) co_return Result<void>{};
    const json::object question{{"command-line", "gpa2hva 0"}};
    const auto answer = co_await control_->execute("human-monitor-command", question, command_limit);
    if (!answer) co_return fail(answer.error());
    const auto address = address_in(*answer);
    if (!address) co_return fail(address.error());
    const auto open = [&]() -> Result<GuestMemory> {
        auto files = warden_->files_of(identity());
        if (!files) return fail(std::move(files.error()).at("read the guest's memory"));
        return GuestMemory::open({.memory = std::move(files->memory),
                                  .pagemap = std::move(files->pagemap),
                                  .maps = std::move(files->maps),
                                  .userfaultfd = std::move(files->userfaultfd)},
                                 *address, spec_.memory, past_);
    };
    auto memory = co_await on_pool(pool_, open);
    if (!memory) co_return fail(std::move(memory.error()));
    memory_ = std::move(*memory);
    co_return Result<void>{};
}

// A new file, whatever was there, for QEMU to write to.
Result<Fd> Machine::make_state_file(const std::string& name) const {
    // One that is there may be a link to another snapshot's, which must not be truncated.
    if (::unlinkat(directory_.get(), name.c_str(), 0) != 0 && errno != ENOENT)
        return fail_errno(errno, "cannot remove the old " + name);
    auto file = open_file_at(directory_, name, O_RDWR | O_CREAT | O_EXCL);
    if (!file) return file;
    if (warden_->confines()) {
        if (auto done = vmm::let_write(directory_, name); !done) return fail(std::move(done.error()));
    }
    return file;
}

// Makes a snapshot's file one that nobody writes.
Result<void> Machine::seal(const std::string& name) const {
    if (!warden_->confines()) return {};
    return vmm::seal(directory_, name);
}

Awaitable<Result<void>> Machine::save_device_state(std::string name) {
    const auto make = [&] { return make_state_file(name); };
    const auto file = co_await on_pool(pool_, make);
    if (!file) co_return fail(file.error());
    // QEMU gives up its disks when it saves and takes them back when it resumes; saving twice between would
    // abort it. Nothing moves in a paused machine, so the state is what it was.
    if (!device_state_.empty()) {
        const auto write = [&]() -> Result<void> {
            if (auto written = write_all(*file, device_state_); !written) return written;
            return seal(name);
        };
        co_return co_await on_pool(pool_, write);
    }
    const json::object where{{"filename", name}, {"live", true}};
    if (auto saved = co_await control_->execute("xen-save-devices-state", where, command_limit); !saved)
        co_return fail(std::move(saved.error()));
    const auto take = [&]() -> Result<std::string> {
        if (auto sealed = seal(name); !sealed) return fail(std::move(sealed.error()));
        return read_whole(*file, max_device_state);
    };
    auto state = co_await on_pool(pool_, take);
    if (!state) co_return fail(std::move(state.error()));
    device_state_ = std::move(*state);
    co_return Result<void>{};
}

Result<Machine::Ahead> Machine::write_memory(const std::string& name, vmm::SnapshotKind kind,
                                             GuestMemory::Guest guest) {
    const bool full = kind == vmm::SnapshotKind::full;
    if (full) ::unlinkat(directory_.get(), name.c_str(), 0);
    auto file = open_file_at(directory_, name, full ? O_RDWR | O_CREAT | O_EXCL : O_RDWR);
    if (!file) return fail(std::move(file.error()));
    const auto in_use = memory_->lies_over(*file);
    if (!in_use) return fail(in_use.error());
    if (*in_use) return fail(Errc::invalid, "the machine runs on " + name + "; save to a clone of it");
    const auto written = full ? memory_->write_all_to(*file, guest) : memory_->write_changes_to(*file, guest);
    if (!written) return fail(written.error());
    return Ahead{std::move(*file), *written};
}

bool Machine::is_ahead(const std::string& name) const {
    struct stat written {};
    struct stat named {};
    return ahead_ && ::fstat(ahead_->file.get(), &written) == 0 &&
           ::fstatat(directory_.get(), name.c_str(), &named, AT_SYMLINK_NOFOLLOW) == 0 &&
           written.st_dev == named.st_dev && written.st_ino == named.st_ino;
}

Awaitable<Result<void>> Machine::save_ahead(const vmm::SnapshotFiles& files, vmm::SnapshotKind kind) {
    ahead_.reset();
    const std::string name = files.memory;
    if (auto found = co_await find_memory(); !found) co_return fail(std::move(found.error()));
    const auto write = [&] { return write_memory(name, kind, GuestMemory::Guest::running); };
    auto written = co_await on_pool(pool_, write);
    if (!written) co_return fail(std::move(written.error()));
    ahead_ = std::move(*written);
    co_return Result<void>{};
}

Awaitable<Result<vmm::SaveReport>> Machine::save(const vmm::SnapshotFiles& files, vmm::SnapshotKind kind) {
    if (!paused_) co_return fail(Errc::conflict, "the machine is running");
    const auto began = std::chrono::steady_clock::now();
    const vmm::SnapshotFiles names = files;

    if (auto found = co_await find_memory(); !found) co_return fail(std::move(found.error()));
    if (auto saved = co_await save_device_state(names.state); !saved)
        co_return fail(std::move(saved.error()));

    const auto write_memory = [&]() -> Result<std::uint64_t> {
        const std::uint64_t before = is_ahead(names.memory) ? ahead_->bytes : 0;
        const auto how = is_ahead(names.memory) ? vmm::SnapshotKind::incremental : kind;
        const auto done = this->write_memory(names.memory, how, GuestMemory::Guest::paused);
        if (!done) return fail(done.error());
        return before + done->bytes;
    };
    auto written = co_await on_pool(pool_, write_memory);
    ahead_.reset();
    if (!written) co_return fail(std::move(written.error()));
    co_return vmm::SaveReport{.bytes_written = *written + device_state_.size(),
                              .paused = std::chrono::duration_cast<std::chrono::microseconds>(
                                  std::chrono::steady_clock::now() - began)};
}

Awaitable<Result<std::string>> Machine::read_console() {
    std::string bytes(max_console_read, '\0');
    boost::system::error_code error;
    const std::size_t got = co_await console_->async_read_some(
        asio::buffer(bytes), asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return fail(Errc::unavailable, "the console is closed");
    bytes.resize(got);
    co_return bytes;
}

Awaitable<Result<void>> Machine::write_console(std::string_view bytes) {
    const std::string copy{bytes};
    boost::system::error_code error;
    co_await asio::async_write(*console_, asio::buffer(copy),
                               asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return fail(Errc::unavailable, "the console is closed");
    co_return Result<void>{};
}

Awaitable<vmm::Exit> Machine::exited() {
    const auto status = co_await process_->exited();
    // The last events may still be on their way; the connection's end is behind them.
    [[maybe_unused]] const auto all_heard = co_await control_->closed(1s);
    vmm::Exit exit{.how = how_it_ended(status), .detail = "QEMU " + launcher::describe(status)};
    if (const auto words = last_words(); !words.empty()) exit.detail += ": " + words;
    co_return exit;
}

vmm::Exit::How Machine::how_it_ended(const launcher::ExitStatus& status) const {
    using How = vmm::Exit::How;
    if (shutdown_reason_ == "guest-shutdown") return How::guest_shutdown;
    if (shutdown_reason_ == "guest-reset") return How::guest_reboot;
    if (shutdown_reason_.starts_with("host-") || kill_asked_) return How::killed;
    if (status == launcher::ExitStatus{launcher::ExitStatus::How::signalled, SIGKILL}) return How::killed;
    return How::crashed;
}

std::string Machine::last_words() const {
    return output_ ? output_->text(max_last_words) : std::string{};
}

Awaitable<Result<void>> Machine::kill(std::chrono::milliseconds grace) {
    kill_asked_ = true;
    auto stopped = co_await process_->stop(grace);
    if (!stopped) co_return fail(std::move(stopped.error()));
    co_return Result<void>{};
}

}  // namespace noid::qemu
