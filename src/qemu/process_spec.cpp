#include "qemu/process_spec.hpp"

#include "qemu/jail.hpp"
#include "qemu/preload/open_memory.hpp"

namespace noid::qemu {

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
    process.limits = {{RLIMIT_CORE, 0}};  // a guest's memory must not end up in a core file
    if (user) {
        process.confinement = confinement(program, spec, *user);
        if (start.memory_file)
            process.environment = {"LD_PRELOAD=" + (spec.directory / open_memory_file).string(),
                                   std::string{open_memory_variable} + "=" + *start.memory_file};
    } else if (spec.network) {
        process.confinement.network_namespace = spec.network->netns;
    }
    return process;
}

}  // namespace noid::qemu
