#include "firecracker/machine.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <cerrno>
#include <csignal>

#include "base/file.hpp"
#include "base/unix_socket.hpp"
#include "vmm/directory_access.hpp"

namespace noid::firecracker {

using namespace std::chrono_literals;
using Socket = asio::local::stream_protocol::socket;
using State = ApiClient::State;

namespace {

constexpr std::string_view connect_agent_port = "CONNECT 1024\n";
constexpr std::size_t greeting_limit = 32;  // "OK 1073741824\n"
constexpr auto command_deadline = 30s;      // it takes milliseconds, unless the host is very busy
// Of one step; the start reads kernel and initrd from a disk that may be busy.
constexpr auto boot_deadline = 60s;
constexpr auto ready_deadline = 60s;  // one that ends instead is seen at once
constexpr auto greeting_deadline = 15s;
constexpr auto console_deadline = 5s;

// Firecracker's vsock answers "OK <port>\n" when the guest accepts, and closes when nobody listens there.
Awaitable<Result<Socket>> greet(const Fd& directory) {
    auto socket = co_await connect_unix_at(directory, vsock_socket);
    if (!socket) co_return fail(std::move(socket.error()));
    boost::system::error_code error;
    co_await asio::async_write(*socket, asio::buffer(connect_agent_port),
                               asio::redirect_error(asio::use_awaitable, error));
    std::string greeting;
    // Byte by byte: what follows the line is the agent's.
    while (!error && !greeting.ends_with('\n') && greeting.size() < greeting_limit) {
        char byte = 0;
        co_await asio::async_read(*socket, asio::buffer(&byte, 1),
                                  asio::redirect_error(asio::use_awaitable, error));
        if (!error) greeting += byte;
    }
    if (error) co_return fail(Errc::unavailable, "the agent does not listen");
    if (!greeting.starts_with("OK ") || !greeting.ends_with('\n'))
        co_return fail(Errc::corrupt, "firecracker's vsock answers something else than OK");
    co_return std::move(*socket);
}

// within() needs a value that can be made from nothing; a socket cannot.
Awaitable<Result<std::optional<Socket>>> greet_optional(const Fd& directory) {
    auto socket = co_await greet(directory);
    if (!socket) co_return fail(std::move(socket.error()));
    co_return std::optional<Socket>{std::move(*socket)};
}

Result<void> remove_name(const Fd& directory, const std::string& name) {
    if (::unlinkat(directory.get(), name.c_str(), 0) != 0 && errno != ENOENT)
        return fail_errno(errno, "cannot remove the old " + name);
    return {};
}

// An empty file of ours for Firecracker to write to, whatever was there.
Result<void> make_file(const Fd& directory, const std::string& name) {
    if (auto removed = remove_name(directory, name); !removed) return removed;
    const auto made = open_file_at(directory, name, O_WRONLY | O_CREAT | O_EXCL);
    if (!made) return fail(made.error());
    return vmm::let_write(directory, name);
}

// Firecracker writes into files that exist, and all of them are to be ours. A name may be a hard link to a
// snapshot that others restore from, so new files are made, and a clone must be nobody else's.
Result<void> prepare_files(const Fd& directory, const vmm::SnapshotFiles& files, vmm::SnapshotKind kind,
                           MiB memory) {
    if (auto made = make_file(directory, files.state); !made) return made;
    if (kind == vmm::SnapshotKind::full) return make_file(directory, files.memory);
    struct stat clone {};
    if (::fstatat(directory.get(), files.memory.c_str(), &clone, AT_SYMLINK_NOFOLLOW) != 0)
        return fail_errno(errno, "cannot look at the memory to write over");
    if (!S_ISREG(clone.st_mode) || clone.st_nlink != 1)
        return fail(Errc::conflict, "the memory to write over is not a clone of its own");
    // With another size Firecracker would empty it first and leave holes for what did not change.
    if (static_cast<std::uint64_t>(clone.st_size) != memory.bytes())
        return fail(Errc::corrupt, "the memory to write over has another size than the VM's");
    return vmm::let_write(directory, files.memory);
}

}  // namespace

Machine::Machine(Parts parts)
    : pool_{parts.pool},
      warden_{std::move(parts.warden)},
      directory_{std::move(parts.directory)},
      memory_{parts.memory},
      layout_{parts.layout},
      features_{parts.features},
      process_{std::move(parts.process)},
      stdio_{std::move(parts.stdio)},
      metrics_{std::move(parts.metrics)} {}

Awaitable<Result<void>> Machine::api_ready() {
    // Firecracker logs after each step of its start, also after it listens: a line is the signal to try.
    auto wait = [this]() -> Awaitable<Result<void>> {
        for (;;) {
            if (auto grown = co_await stdio_.log_grows(); !grown) co_return grown;
            const auto answer = co_await api_.state();
            if (answer) {
                state_ = *answer;
                co_return Result<void>{};
            }
            const auto code = answer.error().code;
            if (code != Errc::not_found && code != Errc::unavailable) co_return fail(answer.error());
        }
    };
    auto ready = co_await within(ready_deadline, wait());
    if (!ready)
        co_return fail(ready.error().code,
                       "firecracker does not start: " + ready.error().what + ": " + stdio_.last_words());
    co_return ready;
}

Awaitable<Result<void>> Machine::boot(const vmm::MachineSpec& spec) {
    for (auto& request : firecracker::boot(spec)) {
        if (auto done = co_await command(std::move(request), boot_deadline); !done) co_return done;
    }
    state_ = State::running;
    co_return Result<void>{};
}

Awaitable<Result<void>> Machine::load(const vmm::MachineSpec& spec, const vmm::SnapshotFiles& files,
                                      vmm::Vmm::Wake wake) {
    auto done = co_await command(load_snapshot(spec, files, wake), memory_deadline());
    if (!done) co_return done;
    // The drive comes with the limit that it was saved with.
    const vmm::DiskLimit limit = spec.disk_limit;
    if (limit != spec.saved_disk_limit) {
        if (auto limited = co_await set_disk_limit(limit); !limited) co_return limited;
    }
    state_ = wake == vmm::Vmm::Wake::running ? State::running : State::paused;
    paused_bare_ = false;
    co_return done;
}

Awaitable<Result<Socket>> Machine::connect_agent() {
    auto socket = co_await within(greeting_deadline, greet_optional(directory_));
    if (!socket) co_return fail(std::move(socket.error()));
    co_return std::move(**socket);
}

Awaitable<Result<void>> Machine::pause() {
    auto done = co_await change_state(firecracker::pause(), State::running, State::paused);
    if (done) paused_bare_ = true;
    co_return done;
}

Awaitable<Result<void>> Machine::resume() {
    const auto now = co_await state();
    if (now && *now == State::paused && paused_bare_ && !features_.bare_pause) {
        if (auto done = co_await reset_vsock(); !done) co_return done;
    }
    co_return co_await change_state(firecracker::resume(), State::paused, State::running);
}

Awaitable<Result<vmm::SaveReport>> Machine::save(const vmm::SnapshotFiles& files, vmm::SnapshotKind kind) {
    const auto now = co_await state();
    if (!now) co_return fail(now.error());
    if (*now != State::paused) co_return fail(Errc::conflict, "only a paused VM can be saved");
    if (auto ready = prepare_files(directory_, files, kind, memory_); !ready)
        co_return fail(std::move(ready.error()));

    const auto written_before = co_await bytes_written();
    const auto begin = std::chrono::steady_clock::now();
    if (auto done = co_await command(create_snapshot(files, kind), memory_deadline()); !done)
        co_return fail(std::move(done.error()));
    vmm::SaveReport report;
    report.paused =
        std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - begin);
    report.bytes_written = co_await bytes_written() - written_before;
    state_ = State::paused;
    paused_bare_ = false;
    if (warden_->confines()) {
        for (const auto* name : {&files.memory, &files.state}) {
            if (auto sealed = vmm::seal(directory_, *name); !sealed)
                co_return fail(std::move(sealed.error()));
        }
    }
    co_return report;
}

Awaitable<std::uint64_t> Machine::bytes_written() {
    const auto look = [this] { return warden_->files_of(identity()); };
    const auto files = co_await on_pool(pool_, look);
    co_return files ? files->bytes_written : 0;
}

Awaitable<Result<void>> Machine::write_console(std::string_view bytes) {
    return within(console_deadline, stdio_.write_console(bytes));
}

Awaitable<vmm::Exit> Machine::exited() {
    const auto status = co_await process_.exited();
    co_return exit_reason(status, ended_by_, stdio_.last_words());
}

Awaitable<Result<void>> Machine::kill(std::chrono::milliseconds /*grace*/) {
    if (!process_.has_exited()) ended_by_ = EndedBy::us;
    // Not SIGTERM: Firecracker only dies of it, and as process 1 of its namespace would not even do that.
    if (auto sent = process_.signal(SIGKILL); !sent && sent.error().code != Errc::not_found)
        co_return fail(std::move(sent.error()));
    co_await process_.exited();
    co_return Result<void>{};
}

Awaitable<Result<void>> Machine::command(Request request, std::chrono::milliseconds deadline) {
    state_.reset();
    auto answer = co_await api_.send(std::move(request), deadline);
    // Keeps room in the log's FIFO: when the VM ends, its last words are the last ones.
    const auto& words = stdio_.last_words();
    if (answer) co_return Result<void>{};
    auto error = std::move(answer.error());
    if (error.code == Errc::unavailable && !words.empty()) error.what += ": " + words;
    co_return fail(std::move(error));
}

Awaitable<Result<void>> Machine::change_state(Request request, State from, State to) {
    const auto now = co_await state();
    if (!now) co_return fail(now.error());
    if (*now != from)
        co_return fail(Errc::conflict,
                       from == State::running ? "the VM does not run" : "the VM is not paused");
    auto done = co_await command(std::move(request), command_deadline);
    if (done) state_ = to;
    co_return done;
}

// Where a bare pause leaves the vsock dead, a snapshot before the resume brings it back to life: on the way
// it tells the guest that all connections are gone. Only that part is wanted, so the snapshot is given a
// place for its memory that is none: Firecracker writes the device state, and refuses before it has read,
// written or marked as saved a single page.
Awaitable<Result<void>> Machine::reset_vsock() {
    const vmm::SnapshotFiles files{".", "pause.state"};
    if (auto removed = remove_name(directory_, files.state); !removed) co_return removed;
    auto refused = co_await command(create_snapshot(files, vmm::SnapshotKind::full), command_deadline);
    const bool reset = ::faccessat(directory_.get(), files.state.c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    if (auto removed = remove_name(directory_, files.state); !removed) co_return removed;
    if (!refused && reset) co_return Result<void>{};
    if (refused) co_return fail(Errc::corrupt, "firecracker takes a directory for a file");
    co_return refused;
}

Awaitable<Result<State>> Machine::state() {
    if (!state_) {
        auto answer = co_await api_.state();
        if (!answer) co_return answer;
        state_ = *answer;
    }
    co_return *state_;
}

std::chrono::milliseconds Machine::memory_deadline() const {
    // Memory written at 16 MiB/s, a slow disk, after a minute in which others keep it busy.
    return 60s + std::chrono::milliseconds{memory_.count * 1000 / 16};
}

}  // namespace noid::firecracker
