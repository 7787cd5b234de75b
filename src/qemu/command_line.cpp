#include "qemu/command_line.hpp"

#include <fmt/format.h>

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

namespace noid::qemu {

namespace json = boost::json;

namespace {

// In QEMU's option strings a comma separates, and two stand for one.
std::string escaped(std::string_view value) {
    std::string text;
    for (const char c : value) {
        text.push_back(c);
        if (c == ',') text.push_back(',');
    }
    return text;
}

std::string memory_backend(const vmm::MachineSpec& spec, const Beginning& beginning) {
    if (!beginning.memory_file)
        return fmt::format("memory-backend-ram,id=memory,size={}M", spec.memory.count);
    // Mapped private: what the guest writes becomes pages of its own, all else stays shared with every
    // machine that woke from the same file.
    return fmt::format("memory-backend-file,id=memory,size={}M,share=off,mem-path={}", spec.memory.count,
                       escaped(*beginning.memory_file));
}

// The guest's flush must reach the disk, so its cache is the host's page cache with writeback: a clone by
// FICLONE or copy sees what is in it, and clones of one image share it. And what is read goes into the
// guest's memory by its page tables, so that it counts as written (guest_memory.hpp). What the guest
// discards, the file gives back.
std::string root_disk(const vmm::MachineSpec& spec) {
    return json::serialize(json::object{
        {"node-name", "root"},
        {"driver", "raw"},
        {"discard", "unmap"},
        {"file", json::object{{"driver", "file"}, {"filename", spec.rootfs}, {"discard", "unmap"}}},
    });
}

}  // namespace

std::string_view name_of(Accelerator accelerator) noexcept {
    return accelerator == Accelerator::kvm ? "kvm" : "tcg";
}

std::string kernel_arguments(const vmm::MachineSpec& spec, const Host& host) {
    // From "quiet" on, only to boot faster: less on the slow console, one serial port to look for, no
    // self-tests.
    std::string text =
        "console=ttyS0 reboot=t panic=-1 random.trust_cpu=on quiet 8250.nr_uarts=1 cryptomgr.notests";
    // Where emulated timers are late, calibrating against them hangs one boot in four. An emulated CPU does
    // not speculate, so there is nothing to mitigate.
    if (host.accelerator == Accelerator::tcg)
        text += fmt::format(" tsc_early_khz={} no_timer_check mitigations=off", host.tsc_khz);
    if (!spec.kernel_arguments.empty()) text += " " + spec.kernel_arguments;
    return text;
}

std::vector<std::string> command_line(const vmm::MachineSpec& spec, const Host& host,
                                      const InheritedNumbers& numbers, const Beginning& beginning) {
    const bool kvm = host.accelerator == Accelerator::kvm;
    std::vector<std::string> arguments;
    const auto add = [&](std::string_view option, std::string value) {
        arguments.emplace_back(option);
        if (!value.empty()) arguments.push_back(std::move(value));
    };
    add("-name", "guest=" + escaped(spec.id));
    add("-nodefaults", "");
    add("-no-user-config", "");
    add("-no-reboot", "");
    add("-display", "none");
    add("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    // acpi=on announces the devices the way Debian's kernel looks for them. Without a clock (rtc) the kernel
    // waits for one for a second. Without a timer (pit) it has none left when it takes the APIC's for too
    // slow, as it does where a busy host lets it stand still while it measures that, and sleeps for ever. No
    // description of the state's format in the state: nobody reads it.
    add("-machine",
        "microvm,acpi=on,rtc=on,pit=on,pic=off,isa-serial=on,auto-kernel-cmdline=off,x-option-roms=off,"
        "suppress-vmdesc=on,mem-merge=off,dump-guest-core=off,memory-backend=memory");
    add("-accel", kvm ? "kvm" : fmt::format("tcg,thread=multi,tb-size={}", translated_code_mib));
    add("-cpu", kvm ? "host" : "max");
    add("-smp", std::to_string(spec.vcpus));
    add("-m", fmt::format("{}M", spec.memory.count));
    add("-object", memory_backend(spec, beginning));

    add("-chardev", fmt::format("socket,id=control,fd={},server=on,wait=off", numbers.control));
    add("-mon", "chardev=control,mode=control");
    add("-chardev", fmt::format("socket,id=console,fd={},server=on,wait=off", numbers.console));
    add("-serial", "chardev:console");
    add("-chardev", fmt::format("socket,id=agent,fd={},server=on,wait=off", numbers.agent));
    add("-device", "virtio-serial-device,max_ports=2");  // the first is kept for a console
    add("-device", "virtserialport,chardev=agent,name=noid.agent");
    add("-blockdev", root_disk(spec));
    // A full disk of the host is an error for the guest that writes, as under Firecracker; by default QEMU
    // would stop the whole machine for good.
    add("-device",
        fmt::format("virtio-blk-device,drive=root,id={},werror=report,rerror=report", disk_device));
    add("-device", "virtio-rng-device");
    if (spec.network) {
        add("-netdev", fmt::format("tap,id=network,ifname={},script=no,downscript=no,vhost={}",
                                   escaped(spec.network->tap), host.vhost_net ? "on" : "off"));
        add("-device", "virtio-net-device,netdev=network,mac=" + escaped(spec.network->guest_mac));
    }
    // The last one, so that all others have the places that they have without it. Free pages are given back
    // by themselves. Not to a guest that counts on their being zero: what was woken from a file finds the
    // file's there, and without page-poison such a guest keeps its pages.
    if (vmm::has_balloon(spec.layout)) {
        add("-device", fmt::format("virtio-balloon-device,id={},deflate-on-oom=on,free-page-reporting=on,"
                                   "page-poison=off",
                                   balloon_device));
    }

    if (beginning.memory_file) {
        // A restored machine never boots (a reboot ends it), so it needs no kernel.
        add("-incoming", fmt::format("fd:{}", numbers.state));
        add("-global", "migration.send-configuration=off");
        add("-global", "migration.x-events=on");
        if (beginning.wake == vmm::Vmm::Wake::paused) add("-S", "");
    } else {
        add("-kernel", spec.kernel.string());
        if (!spec.initrd.empty()) add("-initrd", spec.initrd.string());
        add("-append", kernel_arguments(spec, host));
    }
    return arguments;
}

}  // namespace noid::qemu
