#include "privileged/remote_warden.hpp"

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

#include "privileged/request.hpp"

namespace noid::privileged {

struct RemoteWarden::Answer {
    std::string bytes;  // after the first number
    std::vector<Fd> descriptors;
};

Result<RemoteWarden::Answer> RemoteWarden::ask(const std::string& bytes, std::span<const int> descriptors) {
    const std::scoped_lock lock{mutex_};
    if (auto sent = send_packet(socket_, bytes, descriptors); !sent) return fail(std::move(sent.error()));
    auto packet = receive_packet(socket_);
    if (!packet) return fail(Errc::unavailable, "the server's privileged part has ended");
    Reader reader{packet->bytes};
    if (reader.number() == 1)
        return Answer{packet->bytes.substr(sizeof(std::uint64_t)), std::move(packet->descriptors)};
    Error error;
    error.code = static_cast<Errc>(reader.number_up_to(static_cast<std::uint64_t>(Errc::internal)));
    error.cause = {static_cast<int>(reader.number()), std::system_category()};
    error.what = reader.text(max_packet_bytes, [](char) { return true; });
    return fail(std::move(error));
}

Result<launcher::Launched> RemoteWarden::process_in(Answer answer) {
    Reader reader{answer.bytes};
    const auto handle = reader.number();
    launcher::Launched process;
    process.identity.pid = static_cast<pid_t>(reader.number());
    process.identity.start_time = reader.number();
    if (!reader.at_end() || answer.descriptors.empty())
        return fail(Errc::corrupt, "the server's privileged part answers something else");
    process.pidfd = std::move(answer.descriptors[0]);
    if (answer.descriptors.size() > 1) process.exit_status = std::move(answer.descriptors[1]);
    process.signal = [self = shared_from_this(), handle](int number) { return self->signal(handle, number); };
    {
        const std::scoped_lock lock{handles_mutex_};
        handles_[process.identity] = handle;
    }
    const auto forget = [self = shared_from_this(), identity = process.identity, handle](const void*) {
        const std::scoped_lock lock{self->handles_mutex_};
        const auto found = self->handles_.find(identity);
        if (found != self->handles_.end() && found->second == handle) self->handles_.erase(found);
    };
    process.held = std::shared_ptr<const void>{this, forget};
    return process;
}

Result<launcher::Launched> RemoteWarden::start(vmm::ProcessRequest request) {
    std::vector<int> descriptors;
    for (const auto& each : request.descriptors) descriptors.push_back(each.fd.get());
    auto answer = ask(encode(request), descriptors);
    if (!answer) return fail(std::move(answer.error()));
    return process_in(std::move(*answer));
}

Result<launcher::Launched> RemoteWarden::adopt(const ProcessIdentity& process,
                                               const std::filesystem::path& directory) {
    auto answer = ask(encode(AdoptRequest{process, directory}), {});
    if (!answer) return fail(std::move(answer.error()));
    return process_in(std::move(*answer));
}

Result<void> RemoteWarden::signal(std::uint64_t handle, int number) const {
    return send_packet(socket_, encode(SignalRequest{handle, number}), {});
}

Result<vmm::ProcessFiles> RemoteWarden::files_of(const ProcessIdentity& process) {
    std::uint64_t handle = 0;
    {
        const std::scoped_lock lock{handles_mutex_};
        const auto found = handles_.find(process);
        if (found == handles_.end()) return fail(Errc::not_found, "the VMM has ended");
        handle = found->second;
    }
    auto answer = ask(encode(FilesRequest{handle}), {});
    if (!answer) return fail(std::move(answer.error()));
    vmm::ProcessFiles files;
    Reader reader{answer->bytes};
    files.bytes_written = reader.number();
    std::size_t next = 0;
    for (Fd* each : files_in(files)) {
        if (reader.number_up_to(1) == 1 && next < answer->descriptors.size())
            *each = std::move(answer->descriptors[next++]);
    }
    if (!files.smaps_rollup || !reader.at_end())
        return fail(Errc::corrupt, "the server's privileged part answers something else");
    return files;
}

Result<std::vector<vmm::WorkingProcess>> RemoteWarden::processes() {
    auto answer = ask(encode(ProcessesRequest{}), {});
    if (!answer) return fail(std::move(answer.error()));
    struct stat status {};
    if (answer->descriptors.size() != 1 || ::fstat(answer->descriptors[0].get(), &status) != 0)
        return fail(Errc::corrupt, "the server's privileged part answers something else");
    const auto size = static_cast<std::size_t>(status.st_size);
    std::vector<vmm::WorkingProcess> found(size / sizeof(vmm::WorkingProcess));
    const auto wanted = found.size() * sizeof(vmm::WorkingProcess);
    if (::pread(answer->descriptors[0].get(), found.data(), wanted, 0) != static_cast<ssize_t>(wanted))
        return fail(Errc::corrupt, "the list of VMMs cannot be read");
    return found;
}

Result<vmm::Reclaimed> RemoteWarden::reclaim(const std::filesystem::path& directory) {
    auto answer = ask(encode(ReclaimRequest{directory}), {});
    if (!answer) return fail(std::move(answer.error()));
    Reader reader{answer->bytes};
    const auto how = reader.number_up_to(static_cast<std::uint64_t>(vmm::Reclaimed::a_part));
    if (!reader.at_end()) return fail(Errc::corrupt, "the server's privileged part answers something else");
    return static_cast<vmm::Reclaimed>(how);
}

Result<Fd> RemoteWarden::connect_to_network() {
    auto answer = ask(encode(NetworkRequest{}), {});
    if (!answer) return fail(std::move(answer.error()));
    if (answer->descriptors.size() != 1)
        return fail(Errc::corrupt, "the server's privileged part answers something else");
    return std::move(answer->descriptors[0]);
}

void RemoteWarden::close() noexcept {
    ::shutdown(socket_.get(), SHUT_RDWR);
}

}  // namespace noid::privileged
