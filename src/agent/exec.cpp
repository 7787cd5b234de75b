#include "agent/exec.hpp"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "agent/processes.hpp"

namespace noid::agent {

using proto::OutputStream;
using How = proto::SessionEnd::How;

namespace {

// After the process itself has ended, a background child may hold its pipes open for ever. Output
// that goes on is still delivered; this long without any, and the session ends.
constexpr std::chrono::milliseconds quiet_after_exit{200};

constexpr std::size_t read_size = 64 * 1024;
constexpr int reads_per_turn = 8;
constexpr int pipe_size = 256 * 1024;
constexpr std::size_t shown_command = 256;

constexpr std::uint32_t readable_events = EPOLLIN | EPOLLHUP | EPOLLRDHUP | EPOLLERR;
constexpr std::uint32_t writable_events = EPOLLOUT | EPOLLERR;

struct Pipe {
    Fd read;
    Fd write;
};

Result<Pipe> make_pipe() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return fail_errno(errno, "make a pipe");
    Pipe pipe{Fd{ends[0]}, Fd{ends[1]}};
    ::fcntl(pipe.write.get(), F_SETPIPE_SZ, pipe_size);  // less does, too
    return pipe;
}

// Our ends only: the process gets blocking ones.
void make_non_blocking(const Fd& fd) {
    ::fcntl(fd.get(), F_SETFL, ::fcntl(fd.get(), F_GETFL) | O_NONBLOCK);
}

void set_size(const Fd& terminal, proto::TerminalSize size) {
    winsize window{};
    window.ws_col = size.columns;
    window.ws_row = size.rows;
    ::ioctl(terminal.get(), TIOCSWINSZ, &window);
}

struct Terminal {
    Fd master;
    Fd slave;
};

Result<Terminal> make_terminal(proto::TerminalSize size) {
    Terminal terminal;
    terminal.master.reset(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
    int unlocked = 0;
    if (!terminal.master || ::ioctl(terminal.master.get(), TIOCSPTLCK, &unlocked) != 0)
        return fail_errno(errno, "make a terminal");
    // By its master, not by a name in /dev/pts: works wherever the image has that.
    terminal.slave.reset(::ioctl(terminal.master.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
    if (!terminal.slave) return fail_errno(errno, "make a terminal");
    set_size(terminal.master, size);
    return terminal;
}

void set_variable(std::vector<std::string>& env, const std::string& assignment) {
    const std::string name = assignment.substr(0, assignment.find('=')) + '=';
    for (auto& present : env) {
        if (!present.starts_with(name)) continue;
        present = assignment;
        return;
    }
    env.push_back(assignment);
}

bool is_directory(const std::string& path) {
    struct stat info {};
    return ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

}  // namespace

Exec::Exec(Context& context, proto::GuestSession& session, proto::Exec request, const char* kind)
    : context_{context},
      session_{session},
      request_{std::move(request)},
      kind_{kind},
      out_{context.loop, [this] { pump_output(OutputStream::out); }},
      err_{context.loop, [this] { pump_output(OutputStream::err); }},
      time_limit_{context.loop,
                  [this] {
                      timed_out_ = true;
                      kill_all();
                  }},
      quiet_{context.loop, [this] { finish(); }} {}

Exec::~Exec() {
    if (finished_ || pid_ <= 0) return;
    kill_all();
    context_.children.forget(pid_);
}

Result<Program> Exec::program() const {
    auto account = find_account(request_.user);
    if (!account) return fail(account.error());
    Program program;
    program.account = std::move(*account);
    const Account& who = program.account;
    program.argv = request_.argv;
    if (program.argv.empty()) {
        program.argv = {who.shell};
        program.name = "-" + who.shell.substr(who.shell.rfind('/') + 1);
    }
    if (program.argv.front().empty()) return fail(Errc::invalid, "the command's name is empty");
    program.env = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                   "HOME=" + who.home,
                   "USER=" + who.name,
                   "LOGNAME=" + who.name,
                   "SHELL=" + who.shell,
                   "LANG=C.UTF-8"};
    if (request_.tty) program.env.emplace_back("TERM=xterm-256color");
    for (const auto* more : {&std::as_const(context_.environment), &request_.env}) {
        for (const auto& assignment : *more) set_variable(program.env, assignment);
    }
    if (request_.cwd.empty()) {
        program.cwd = is_directory(who.home) ? who.home : "/";
    } else if (request_.cwd.starts_with('/')) {
        program.cwd = request_.cwd;
    } else {
        return fail(Errc::invalid, "working directory '" + request_.cwd + "' is not absolute");
    }
    program.controlling_terminal = request_.tty.has_value();
    return program;
}

// Makes the streams; gives the process's ends.
Result<std::array<Fd, 3>> Exec::connect() {
    std::array<Fd, 3> theirs;
    const auto duplicate = [](const Fd& fd) { return Fd{::fcntl(fd.get(), F_DUPFD_CLOEXEC, 3)}; };
    if (request_.tty) {
        auto terminal = make_terminal(*request_.tty);
        if (!terminal) return fail(terminal.error());
        out_.fd = std::move(terminal->master);
        make_non_blocking(out_.fd);
        theirs = {duplicate(terminal->slave), duplicate(terminal->slave), std::move(terminal->slave)};
        return theirs;
    }
    auto out = make_pipe();
    if (!out) return fail(out.error());
    out_.fd = std::move(out->read);
    make_non_blocking(out_.fd);
    if (request_.merge_error_output) {
        theirs[2] = duplicate(out->write);
    } else {
        auto err = make_pipe();
        if (!err) return fail(err.error());
        err_.fd = std::move(err->read);
        make_non_blocking(err_.fd);
        theirs[2] = std::move(err->write);
    }
    theirs[1] = std::move(out->write);
    if (!request_.input) {
        theirs[0].reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    } else {
        auto in = make_pipe();
        if (!in) return fail(in.error());
        in_ = std::move(in->write);
        make_non_blocking(in_);
        theirs[0] = std::move(in->read);
    }
    return theirs;
}

void Exec::start() {
    auto wanted = program();
    if (!wanted) return end_failed(session_, wanted.error());
    auto theirs = connect();
    if (!theirs) return end_failed(session_, theirs.error());
    for (std::size_t i = 0; i < theirs->size(); ++i) wanted->standard[i] = (*theirs)[i].get();
    if (request_.tty && wanted->account.uid != ::geteuid()) [[maybe_unused]]
        const int done = ::fchown(theirs->front().get(), wanted->account.uid, wanted->account.gid);
    cgroup_ = context_.cgroups.acquire();
    wanted->cgroup = cgroup_ ? cgroup_.directory() : -1;

    const Spawned spawned = spawn(*wanted);
    if (spawned.failed != Spawned::Failed::no) return report_failure(*wanted, spawned);
    for (Fd& end : *theirs) end.reset();
    pid_ = spawned.pid;
    context_.children.await(pid_, [this](int status) { child_ended(status); });
    session_.opened({.pid = pid(), .file = {}});
    if (request_.time_limit.count() > 0) time_limit_.set(request_.time_limit);

    watch_source(OutputStream::out);
    if (err_.fd)
        watch_source(OutputStream::err);
    else
        session_.end_output(OutputStream::err);
    if (in_) {
        in_watch_ = EventLoop::Watch{context_.loop, in_.get(), [this](std::uint32_t events) {
                                         writable_ |= (events & writable_events) != 0;
                                         pump_input();
                                     }};
    }
    pump_input();
}

void Exec::report_failure(const Program& program, const Spawned& spawned) {
    finished_ = true;
    const int number = spawned.error_number;
    const auto failed = [&](std::string what) {
        end_failed(session_, fail_errno(number, std::move(what)).error());
    };
    switch (spawned.failed) {
        case Spawned::Failed::directory:
            return failed("working directory '" + program.cwd + "'");
        case Spawned::Failed::user:
            return failed("become user '" + program.account.name + "'");
        case Spawned::Failed::terminal:
            return failed("take the terminal");
        case Spawned::Failed::fork:
            return failed("start a process");
        case Spawned::Failed::program:
        case Spawned::Failed::no:
            break;
    }
    // As shells do.
    const std::string& name = program.argv.front();
    const bool missing = number == ENOENT || number == ENOTDIR;
    const bool searched = missing && name.find('/') == std::string::npos;
    const bool one_output = request_.tty || request_.merge_error_output;
    session_.opened({});
    session_.write_output(one_output ? OutputStream::out : OutputStream::err,
                          name + ": " + (searched ? "command not found" : std::strerror(number)) + "\n");
    session_.end({.how = How::exited, .status = missing ? 127 : 126, .message = {}});
}

// ---- output ----

void Exec::watch_source(OutputStream stream) {
    Source& from = source(stream);
    from.watch = EventLoop::Watch{context_.loop, from.fd.get(), [this, stream](std::uint32_t events) {
                                      Source& ready = source(stream);
                                      ready.readable |= (events & readable_events) != 0;
                                      if (request_.tty && (events & writable_events) != 0) {
                                          writable_ = true;
                                          pump_input();
                                      }
                                      pump_output(stream);
                                  }};
}

ssize_t Exec::read_some(OutputStream stream) {
    const int fd = source(stream).fd.get();
    if (session_.consumer() == proto::GuestSession::Consumer::detached) {
        // Only what is read may push older output out.
        static std::array<char, read_size> buffer;
        const ssize_t got = ::read(fd, buffer.data(), buffer.size());
        if (got > 0) session_.write_output(stream, {buffer.data(), static_cast<std::size_t>(got)});
        return got;
    }
    const auto space = session_.output_space(stream, read_size);
    if (space.empty()) {
        errno = ENOBUFS;
        return -1;
    }
    const ssize_t got = ::read(fd, space.data(), space.size());
    if (got > 0) session_.output_written(stream, static_cast<std::size_t>(got));
    return got;
}

void Exec::pump_output(OutputStream stream) {
    Source& from = source(stream);
    for (int reads = 0; from.fd && from.readable;) {
        if (reads++ == reads_per_turn) {
            from.more.set(std::chrono::milliseconds{0});
            break;
        }
        const ssize_t got = read_some(stream);
        if (got > 0 || (got < 0 && errno == EINTR)) continue;
        if (got < 0 && errno == ENOBUFS) break;  // on_output_room() comes back to it
        if (got < 0 && errno == EAGAIN) {
            from.readable = false;
            break;
        }
        close_source(stream);  // end of file; a terminal says EIO when its last user closed it
    }
    settle();
}

void Exec::close_source(OutputStream stream) {
    Source& from = source(stream);
    from.watch.reset();
    from.more.cancel();
    from.fd.reset();
    from.readable = false;
    session_.end_output(stream);
    if (request_.tty) close_input();
}

void Exec::on_output_room(OutputStream stream) {
    if (!finished_) pump_output(stream);
}

// ---- input ----

void Exec::on_input() {
    if (!finished_) pump_input();
}

void Exec::pump_input() {
    const Fd& to = request_.tty ? out_.fd : in_;
    while (to && writable_ && !input_ended_ && !session_.waiting_input().empty()) {
        const auto bytes = session_.waiting_input();
        const ssize_t put = ::write(to.get(), bytes.data(), bytes.size());
        if (put > 0) {
            session_.input_taken(static_cast<std::size_t>(put));
        } else if (errno == EAGAIN) {
            writable_ = false;
        } else if (errno != EINTR) {
            close_input();  // the process does not read any more
        }
    }
    if (input_ended_ || !to) {
        while (!session_.waiting_input().empty()) session_.input_taken(session_.waiting_input().size());
        return;
    }
    if (!session_.input_finished()) return;
    if (request_.tty) {
        // A terminal has no half-close: its end-of-file character ends the input.
        termios settings{};
        char end_of_file = 4;
        if (::tcgetattr(to.get(), &settings) == 0) end_of_file = static_cast<char>(settings.c_cc[VEOF]);
        [[maybe_unused]] const auto put = ::write(to.get(), &end_of_file, 1);
    }
    close_input();
}

void Exec::close_input() {
    input_ended_ = true;
    in_watch_.reset();
    in_.reset();
}

void Exec::on_signal(int number) {
    if (pid_ <= 0 || outcome_ || number <= 0 || number >= NSIG) return;
    // Not reaped yet: pid and group cannot belong to anybody else.
    ::kill(-pid_, number);
    pid_t foreground = 0;
    if (request_.tty && out_.fd && ::ioctl(out_.fd.get(), TIOCGPGRP, &foreground) == 0 && foreground > 0 &&
        foreground != pid_)
        ::kill(-foreground, number);
}

void Exec::on_resize(proto::TerminalSize size) {
    if (request_.tty && out_.fd) set_size(out_.fd, size);
}

// ---- the end ----

void Exec::kill_all() noexcept {
    if (pid_ <= 0) return;
    if (cgroup_ && cgroup_.kill()) return;
    if (!outcome_) ::kill(-pid_, SIGKILL);
    kill_process_session(pid_);
}

void Exec::child_ended(int status) {
    time_limit_.cancel();
    proto::SessionEnd outcome;
    if (WIFSIGNALED(status)) {
        outcome.how = timed_out_ ? How::timed_out : How::signalled;
        outcome.status = WTERMSIG(status);
    } else {
        outcome.status = WEXITSTATUS(status);
    }
    outcome_ = outcome;
    // What it wrote last is in the pipes, whether the loop was told of it yet or not.
    for (const OutputStream stream : {OutputStream::out, OutputStream::err}) {
        source(stream).readable = static_cast<bool>(source(stream).fd);
        pump_output(stream);
    }
}

void Exec::settle() {
    if (finished_ || pid_ <= 0) return;
    // A process closes its files just before it ends: one message then tells the host of both.
    if (!outcome_ && !out_.fd && !err_.fd) return context_.children.reap();
    if (!outcome_) return;
    if (!out_.fd && !err_.fd) return finish();
    // What is readable waits for the host, not for the processes: no quiet yet.
    if (out_.readable || err_.readable)
        quiet_.cancel();
    else
        quiet_.set(quiet_after_exit);
}

void Exec::finish() {
    finished_ = true;
    quiet_.cancel();
    for (Source* from : {&out_, &err_}) {
        from->watch.reset();
        from->more.cancel();
        from->fd.reset();
    }
    close_input();
    cgroup_ = {};  // what was left in the background runs on
    session_.end(*outcome_);
}

std::string Exec::describe() const {
    if (request_.argv.empty()) return "(login shell)";
    std::string line;
    for (const auto& word : request_.argv) {
        if (!line.empty()) line += ' ';
        line += word;
        if (line.size() > shown_command) break;
    }
    return line.substr(0, shown_command);
}

}  // namespace noid::agent
