#include "firecracker/kvm_trial.hpp"

#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "base/file.hpp"

namespace noid::firecracker {

namespace {

constexpr std::size_t page = 4096;

struct Unmap {
    std::size_t size;
    void operator()(void* memory) const noexcept { ::munmap(memory, size); }
};
using Mapping = std::unique_ptr<void, Unmap>;

Result<Mapping> map(std::size_t size, int flags, int fd) {
    void* memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, fd, 0);
    if (memory == MAP_FAILED) return fail_errno(errno, "cannot map memory for a trial of KVM");
    return Mapping{memory, Unmap{size}};
}

std::unexpected<Error> refused(const char* step) {
    return fail(Errc::unavailable,
                std::string{"KVM does not work here: "} + step + ": " + std::strerror(errno));
}

}  // namespace

Result<void> try_kvm() {
    const auto kvm = open_file("/dev/kvm", O_RDWR);
    if (!kvm) return fail(kvm.error());
    if (::ioctl(kvm->get(), KVM_GET_API_VERSION, 0) != KVM_API_VERSION) return refused("API version");
    const Fd vm{::ioctl(kvm->get(), KVM_CREATE_VM, 0)};
    if (!vm) return refused("making a VM");

    // One page at address 0 that holds the instruction `hlt`.
    const auto memory = map(page, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    if (!memory) return fail(memory.error());
    *static_cast<unsigned char*>(memory->get()) = 0xf4;
    kvm_userspace_memory_region region{};
    region.memory_size = page;
    region.userspace_addr = reinterpret_cast<std::uintptr_t>(memory->get());
    if (::ioctl(vm.get(), KVM_SET_USER_MEMORY_REGION, &region) != 0) return refused("giving it memory");

    const Fd vcpu{::ioctl(vm.get(), KVM_CREATE_VCPU, 0)};
    if (!vcpu) return refused("making a vCPU");
    const int size = ::ioctl(kvm->get(), KVM_GET_VCPU_MMAP_SIZE, 0);
    if (size < static_cast<int>(sizeof(kvm_run))) return refused("size of the vCPU's state");
    const auto state = map(static_cast<std::size_t>(size), MAP_SHARED, vcpu.get());
    if (!state) return fail(state.error());

    kvm_sregs segments{};
    if (::ioctl(vcpu.get(), KVM_GET_SREGS, &segments) != 0) return refused("reading registers");
    segments.cs.base = 0;
    segments.cs.selector = 0;
    if (::ioctl(vcpu.get(), KVM_SET_SREGS, &segments) != 0) return refused("setting segments");
    kvm_regs registers{};
    registers.rflags = 2;  // the bit that is always 1
    if (::ioctl(vcpu.get(), KVM_SET_REGS, &registers) != 0) return refused("setting registers");

    if (::ioctl(vcpu.get(), KVM_RUN, 0) != 0) return refused("running a vCPU");
    const auto reason = static_cast<const kvm_run*>(state->get())->exit_reason;
    if (reason != KVM_EXIT_HLT)
        return fail(Errc::unavailable, "KVM does not work here: a vCPU stopped for reason " +
                                           std::to_string(reason) + ", not at hlt");
    return {};
}

}  // namespace noid::firecracker
