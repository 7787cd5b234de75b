#include "firecracker/process_spec.hpp"

#include "firecracker/jail.hpp"
#include "firecracker/metrics.hpp"
#include "firecracker/requests.hpp"
#include "firecracker/stdio_fifos.hpp"

namespace noid::firecracker {

namespace {

constexpr rlim_t descriptor_limit = 2048;  // a Firecracker has some 30, and one per vsock connection

}  // namespace

launcher::ProcessSpec process_spec(const std::filesystem::path& program, const vmm::MachineSpec& spec,
                                   const std::optional<launcher::Credentials>& user) {
    launcher::ProcessSpec process;
    process.program = program;
    process.arguments = {"--api-sock", api_socket, "--id", spec.id,          "--log-path",
                         log_fifo,     "--level",  "Info", "--metrics-path", metrics_fifo};
    process.directory = spec.directory;
    process.limits = {{RLIMIT_CORE, 0}, {RLIMIT_NOFILE, descriptor_limit}};
    if (user) {
        process.confinement = confinement(program, spec, *user);
        // Counted by user, so it holds where there is no control group, too.
        process.limits.push_back({RLIMIT_NPROC, limits_of(spec).tasks * launcher::tasks_of_user_factor});
        // The server connects to the sockets that Firecracker makes. The directory keeps all others out.
        process.file_mode_mask = 0;
    } else if (spec.network) {
        process.confinement.network_namespace = spec.network->netns;
    }
    return process;
}

launcher::ProcessSpec version_spec(const std::filesystem::path& program,
                                   const std::optional<launcher::Credentials>& user) {
    launcher::ProcessSpec process;
    process.program = program;
    process.arguments = {"--version"};
    if (user) {
        process.confinement.credentials = *user;
        process.confinement.root.emplace().readable = {program};
    }
    return process;
}

}  // namespace noid::firecracker
