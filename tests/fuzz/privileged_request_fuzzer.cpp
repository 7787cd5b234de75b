// What the privileged part of a server is asked, by one that is no longer itself. Whatever is taken for a
// request is within its bounds, and is encoded again to the same bytes.
#include <fcntl.h>

#include "input.hpp"
#include "privileged/request.hpp"

using namespace noid;

namespace {

bool is_name(const std::string& name) {
    return !name.empty() && name.size() <= 64 && name.front() != '.' && name.front() != '-' &&
           name.find_first_of("/,\n ") == std::string::npos;
}

bool is_plain(const std::filesystem::path& path) {
    return path.is_absolute() && path == path.lexically_normal() && path.native().size() <= 1024 &&
           path.native().find('\0') == std::string::npos;
}

void check(const vmm::ProcessRequest& request) {
    for (const auto& each : request.descriptors)
        fuzz::require(each.number >= 0 && each.number <= 8 && each.fd, "a descriptor out of bounds");
    if (!vmm::runs_a_vm(request)) return;
    const auto& spec = request.spec;
    fuzz::require(spec.kernel.empty() && spec.initrd.empty(), "a kernel that was sent");
    fuzz::require(is_name(spec.id) && is_name(spec.rootfs), "a name that is none");
    fuzz::require(is_plain(spec.directory), "a directory that leads astray");
    fuzz::require(spec.vcpus <= 1024 && spec.memory.count <= 1U << 24, "too large a machine");
    if (spec.network) fuzz::require(is_plain(spec.network->netns), "a namespace that leads astray");
    const auto* qemu = std::get_if<vmm::QemuStart>(&request.program);
    if (qemu != nullptr && qemu->memory_file)
        fuzz::require(is_name(*qemu->memory_file), "a memory file elsewhere");
}

void check(const privileged::AdoptRequest& request) {
    fuzz::require(is_plain(request.directory), "a directory that leads astray");
    fuzz::require(request.process.pid >= 0, "no process");
}
void check(const privileged::SignalRequest& request) {
    fuzz::require(request.number == 9 || request.number == 15, "a signal that is not for VMMs");
}
void check(const privileged::FilesRequest& /*request*/) {}
void check(const privileged::ProcessesRequest& /*request*/) {}
void check(const privileged::NetworkRequest& /*request*/) {}
void check(const privileged::ReclaimRequest& request) {
    fuzz::require(is_plain(request.directory), "a directory that leads astray");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input input{data, size};
    privileged::Packet packet;
    const auto descriptors = input.number<std::uint8_t>() % 4;
    for (int i = 0; i < descriptors; ++i)
        packet.descriptors.emplace_back(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    const std::string bytes{input.all()};
    packet.bytes = bytes;
    const auto request = privileged::decode(std::move(packet));
    if (!request) return 0;
    const auto look = [&](const auto& each) {
        check(each);
        fuzz::require(privileged::encode(each) == bytes, "a request that is not its own encoding");
    };
    std::visit(look, *request);
    return 0;
}
