#include "qemu/process_spec.hpp"

#include <sys/mman.h>

#include <cerrno>
#include <string_view>

#include "base/file.hpp"
#include "qemu/jail.hpp"
#include "qemu/preload/preload.hpp"

namespace noid::qemu {

namespace {

constexpr rlim_t descriptor_limit = 1024;  // a QEMU has some 30

// A firmware whose code stands where the CPU begins: it writes to QEMU's exit port. 64 KiB end at 4 GiB.
std::string trial_firmware() {
    constexpr std::size_t size = 64 * 1024;
    constexpr std::size_t reset_vector = size - 16;
    std::string firmware(size, '\0');
    constexpr std::string_view code{"\xb0\x2a\xe6\xf4\xf4", 5};  // mov al, 0x2a; out 0xf4, al; hlt
    firmware.replace(reset_vector, code.size(), code);
    return firmware;
}

}  // namespace

launcher::ProcessSpec process_spec(const std::filesystem::path& program, const vmm::MachineSpec& spec,
                                   const vmm::QemuStart& start,
                                   const std::optional<launcher::Credentials>& user) {
    const Host host{.accelerator = start.kvm ? Accelerator::kvm : Accelerator::tcg,
                    .tsc_khz = start.tsc_khz,
                    .vhost_net = start.vhost_net};
    const Beginning beginning{.memory_file = start.memory_file,
                              .wake = start.paused ? vmm::Vmm::Wake::paused : vmm::Vmm::Wake::running};
    launcher::ProcessSpec process;
    process.program = program;
    process.arguments = command_line(spec, host, InheritedNumbers{}, beginning);
    process.directory = spec.directory;
    // A guest's memory must not end up in a core file.
    process.limits = {{RLIMIT_CORE, 0}, {RLIMIT_NOFILE, descriptor_limit}};
    process.environment = {"LD_PRELOAD=" + (spec.directory / preload_file).string()};
    if (start.memory_file)
        process.environment.push_back(std::string{memory_file_variable} + "=" + *start.memory_file);
    if (user) {
        process.confinement = confinement(program, spec, *user);
        // Counted by user, so it holds where there is no control group, too.
        process.limits.push_back(
            {RLIMIT_NPROC, limits_of(spec, !start.kvm).tasks * launcher::tasks_of_user_factor});
    } else if (spec.network) {
        process.confinement.network_namespace = spec.network->netns;
    }
    return process;
}

launcher::ProcessSpec version_spec(const std::filesystem::path& program,
                                   const std::optional<launcher::Credentials>& user) {
    launcher::ProcessSpec process;
    process.program = program;
    process.arguments = {"-version"};
    if (user) process.confinement = trial_confinement(program, *user);
    return process;
}

Result<launcher::ProcessSpec> trial_spec(const std::filesystem::path& program,
                                         const std::optional<launcher::Credentials>& user) {
    auto process = version_spec(program, user);
    process.limits = {{RLIMIT_CORE, 0}};
    std::string firmware = "/trial-firmware";
    if (user) {
        process.confinement.root->files.push_back({firmware, trial_firmware()});
    } else {
        Fd file{::memfd_create("trial", MFD_CLOEXEC)};
        if (!file) return fail_errno(errno, "cannot make a file in memory");
        if (auto written = write_all(file, trial_firmware()); !written)
            return fail(std::move(written.error()));
        constexpr int number = 3;
        process.descriptors.push_back({number, std::move(file)});
        firmware = "/dev/fd/" + std::to_string(number);
    }
    process.arguments = {"-nodefaults", "-no-user-config",
                         "-display",    "none",
                         "-machine",    "microvm",
                         "-accel",      "kvm",
                         "-cpu",        "host",
                         "-m",          "16M",
                         "-bios",       firmware,
                         "-device",     "isa-debug-exit,iobase=0xf4,iosize=1"};
    return process;
}

}  // namespace noid::qemu
