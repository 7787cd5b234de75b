#include "privileged/service.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string_view>
#include <utility>

#include "base/file.hpp"
#include "base/unix_socket.hpp"
#include "launcher/process.hpp"

namespace noid::privileged {

namespace {

constexpr std::size_t longest_reason = 2048;
// Milliseconds without a request: then the last VM has been made, and nobody is kept waiting.
constexpr int quiet_before_getting_ready = 500;

// Reaps a child that has ended.
launcher::ExitStatus status_of(const Fd& pidfd) {
    siginfo_t info{};
    if (::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(pidfd.get()), &info, WEXITED | WNOHANG) !=
        0)
        return {};
    const auto how =
        info.si_code == CLD_EXITED ? launcher::ExitStatus::How::exited : launcher::ExitStatus::How::signalled;
    return {how, info.si_status};
}

Result<Fd> copy_of(const Fd& file) {
    Fd copy{::fcntl(file.get(), F_DUPFD_CLOEXEC, 3)};
    if (!copy) return fail_errno(errno, "cannot copy a descriptor");
    return copy;
}

}  // namespace

Service::Service(Fd socket, std::shared_ptr<vmm::Warden> warden, Configured configured)
    : socket_{std::move(socket)}, warden_{std::move(warden)}, configured_{std::move(configured)} {}

void Service::run() {
    // A server that has closed the pipe for an ending makes the write fail; it must not end us.
    sigset_t broken_pipe;
    ::sigemptyset(&broken_pipe);
    ::sigaddset(&broken_pipe, SIGPIPE);
    ::pthread_sigmask(SIG_BLOCK, &broken_pipe, nullptr);
    std::vector<pollfd> waits;
    std::vector<std::uint64_t> handles;
    bool is_ready = false;
    for (;;) {
        waits.assign(1, {socket_.get(), POLLIN, 0});
        handles.clear();
        for (const auto& [handle, child] : children_) {
            waits.push_back({child.process.pidfd.get(), POLLIN, 0});
            handles.push_back(handle);
        }
        const int events = ::poll(waits.data(), waits.size(), is_ready ? -1 : quiet_before_getting_ready);
        if (events < 0) {
            if (errno == EINTR) continue;
            return;
        }
        if (events == 0) {
            warden_->get_ready();
            is_ready = true;
            continue;
        }
        is_ready = false;
        for (std::size_t i = 0; i < handles.size(); ++i) {
            if (waits[i + 1].revents != 0) bury(handles[i]);
        }
        if (waits[0].revents != 0 && !serve_one()) return;
    }
}

void Service::bury(std::uint64_t handle) {
    const auto found = children_.find(handle);
    if (found->second.ending) {
        const auto status = status_of(found->second.process.pidfd);
        // The pipe is empty, so it takes this; a server that has closed it does not want to know.
        [[maybe_unused]] const auto told = ::write(found->second.ending.get(), &status, sizeof status);
    }
    children_.erase(found);
}

bool Service::serve_one() {
    auto packet = receive_packet(socket_);
    if (!packet && packet.error().code == Errc::unavailable) return false;
    auto request = packet ? decode(std::move(*packet)) : fail(std::move(packet.error()));
    if (request && std::holds_alternative<SignalRequest>(*request)) {
        carry_out(std::get<SignalRequest>(*request));
        return true;
    }
    const auto visit = [this](auto& each) -> Result<Answer> {
        if constexpr (std::is_same_v<std::remove_cvref_t<decltype(each)>, SignalRequest>)
            std::unreachable();
        else
            return carry_out(std::move(each));
    };
    auto answer = request ? std::visit(visit, *request) : fail(std::move(request.error()));
    Writer writer;
    std::vector<int> descriptors;
    if (answer) {
        writer.number(1);
        for (const Fd& each : answer->descriptors) descriptors.push_back(each.get());
    } else {
        const Error& error = answer.error();
        const std::string_view what{error.what};
        writer.number(0)
            .number(static_cast<std::uint64_t>(error.code))
            .number(static_cast<std::uint64_t>(error.cause.value()))
            .text(what.substr(0, longest_reason));
    }
    const auto bytes = writer.take() + (answer ? answer->content.take() : std::string{});
    return send_packet(socket_, bytes, descriptors).has_value();
}

Result<Service::Answer> Service::look_after(launcher::Launched process, Fd ending, Fd told) {
    auto pidfd = copy_of(process.pidfd);
    if (!pidfd) return fail(std::move(pidfd.error()));
    const auto handle = next_handle_++;
    Answer answer;
    answer.content.number(handle)
        .number(static_cast<std::uint64_t>(process.identity.pid))
        .number(process.identity.start_time);
    answer.descriptors.push_back(std::move(*pidfd));
    if (told) answer.descriptors.push_back(std::move(told));
    children_.emplace(handle, Child{std::move(process), std::move(ending)});
    return answer;
}

Result<Service::Answer> Service::carry_out(vmm::ProcessRequest request) {
    request.spec.kernel = configured_.kernel;
    request.spec.initrd = configured_.initrd;
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) != 0) return fail_errno(errno, "cannot make a pipe");
    Fd told{ends[0]};
    Fd ending{ends[1]};
    auto process = warden_->start(std::move(request));
    if (!process) return fail(std::move(process.error()));
    return look_after(std::move(*process), std::move(ending), std::move(told));
}

Result<Service::Answer> Service::carry_out(const AdoptRequest& request) {
    auto process = warden_->adopt(request.process, request.directory);
    if (!process) return fail(std::move(process.error()));
    return look_after(std::move(*process), Fd{}, Fd{});
}

void Service::carry_out(const SignalRequest& request) {
    const auto child = children_.find(request.handle);
    // It may have ended a moment ago, which the server will see.
    if (child == children_.end()) return;
    ::syscall(SYS_pidfd_send_signal, child->second.process.pidfd.get(), request.number, nullptr, 0);
}

Result<Service::Answer> Service::carry_out(const FilesRequest& request) {
    const auto child = children_.find(request.handle);
    if (child == children_.end()) return fail(Errc::not_found, "the VMM has ended");
    auto files = warden_->files_of(child->second.process.identity);
    if (!files) return fail(std::move(files.error()));
    Answer answer;
    answer.content.number(files->bytes_written);
    for (Fd* each : files_in(*files)) {
        answer.content.number(*each ? 1 : 0);
        if (*each) answer.descriptors.push_back(std::move(*each));
    }
    return answer;
}

// In a file, for they may be more than a packet takes.
Result<Service::Answer> Service::carry_out(const ProcessesRequest& /*request*/) {
    const auto processes = warden_->processes();
    if (!processes) return fail(processes.error());
    Fd file{::memfd_create("processes", MFD_CLOEXEC)};
    if (!file) return fail_errno(errno, "cannot make a file in memory");
    const auto bytes = std::as_bytes(std::span{*processes});
    if (auto written = write_all(file, {reinterpret_cast<const char*>(bytes.data()), bytes.size()}); !written)
        return fail(std::move(written.error()));
    Answer answer;
    answer.descriptors.push_back(std::move(file));
    return answer;
}

// As root: so slots stay whose they are, whomever the server runs as.
Result<Service::Answer> Service::carry_out(const NetworkRequest& /*request*/) {
    const auto directory = open_directory(configured_.netd_socket.parent_path());
    if (!directory) return fail(directory.error());
    auto connection = connect_unix_at_once(*directory, configured_.netd_socket.filename().string());
    if (!connection) return fail(std::move(connection.error()));
    Answer answer;
    answer.descriptors.push_back(std::move(*connection));
    return answer;
}

Result<Service::Answer> Service::carry_out(const ReclaimRequest& request) {
    const auto reclaimed = warden_->reclaim(request.directory);
    if (!reclaimed) return fail(reclaimed.error());
    Answer answer;
    answer.content.number(static_cast<std::uint64_t>(*reclaimed));
    return answer;
}

}  // namespace noid::privileged
