#include "privileged/request.hpp"

#include <algorithm>
#include <csignal>
#include <type_traits>
#include <utility>

namespace noid::privileged {

namespace {

enum class Verb : std::uint8_t { start = 1, adopt, signal, files, processes, network, reclaim };
enum class Program : std::uint8_t { qemu, firecracker, firecracker_version, qemu_version, qemu_trial };

constexpr std::uint64_t most_vcpus = 1024;
constexpr std::uint64_t most_memory = std::uint64_t{1} << 24;  // MiB
constexpr std::uint64_t most_khz = 100'000'000;
constexpr std::uint64_t largest_pid = 1 << 22;  // PID_MAX_LIMIT
constexpr std::size_t longest_name = 64;
constexpr std::size_t longest_path = 1024;
constexpr std::size_t longest_kernel_arguments = 2048;
constexpr std::size_t longest_device_name = 15;  // IFNAMSIZ - 1

bool is_name_character(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
}
bool is_mac_character(char c) {
    return is_name_character(c) || c == ':';
}
bool is_printable(char c) {
    return c >= ' ' && c <= '~';
}
// File names may hold anything but this.
bool is_path_character(char c) {
    return c != '\0';
}

// One component of a path.
std::string read_name(Reader& reader) {
    auto name = reader.text(longest_name, is_name_character);
    if (name.empty() || name.front() == '.' || name.front() == '-') reader.refuse();
    return name;
}

std::filesystem::path read_path(Reader& reader) {
    const std::filesystem::path path = reader.text(longest_path, is_path_character);
    if (!path.is_absolute() || path != path.lexically_normal()) reader.refuse();
    return path;
}

void write(Writer& writer, const vmm::MachineSpec& spec) {
    writer.text(spec.id).text(spec.directory.string()).number(spec.vcpus).number(spec.memory.count);
    writer.number(spec.layout).text(spec.kernel_arguments).text(spec.rootfs).number(spec.network ? 1 : 0);
    if (spec.network)
        writer.text(spec.network->tap).text(spec.network->guest_mac).text(spec.network->netns.string());
}

vmm::MachineSpec read_machine(Reader& reader) {
    vmm::MachineSpec spec;
    spec.id = read_name(reader);
    spec.directory = read_path(reader);
    spec.vcpus = static_cast<std::uint32_t>(reader.number_up_to(most_vcpus));
    spec.memory = MiB{reader.number_up_to(most_memory)};
    spec.layout = static_cast<vmm::Layout>(reader.number_up_to(vmm::newest_layout));
    spec.kernel_arguments = reader.text(longest_kernel_arguments, is_printable);
    spec.rootfs = read_name(reader);
    if (reader.number_up_to(1) != 0) {
        auto& network = spec.network.emplace();
        network.tap = reader.text(longest_device_name, is_name_character);
        network.guest_mac = reader.text(longest_name, is_mac_character);
        network.netns = read_path(reader);
    }
    return spec;
}

vmm::QemuStart read_qemu(Reader& reader) {
    vmm::QemuStart start;
    start.kvm = reader.number_up_to(1) != 0;
    start.tsc_khz = reader.number_up_to(most_khz);
    start.vhost_net = reader.number_up_to(1) != 0;
    if (reader.number_up_to(1) != 0) start.memory_file = read_name(reader);
    start.paused = reader.number_up_to(1) != 0;
    return start;
}

Writer begin(Verb verb) {
    Writer writer;
    writer.number(static_cast<std::uint64_t>(verb));
    return writer;
}

vmm::ProcessRequest read_start(Reader& reader, std::vector<Fd> descriptors) {
    vmm::ProcessRequest request;
    switch (static_cast<Program>(reader.number_up_to(static_cast<std::uint64_t>(Program::qemu_trial)))) {
        case Program::qemu:
            request.program = read_qemu(reader);
            break;
        case Program::firecracker:
            request.program = vmm::FirecrackerStart{};
            break;
        case Program::firecracker_version:
            request.program = vmm::FirecrackerVersion{};
            break;
        case Program::qemu_version:
            request.program = vmm::QemuVersion{};
            break;
        case Program::qemu_trial:
            request.program = vmm::QemuTrial{};
            break;
    }
    if (vmm::runs_a_vm(request)) request.spec = read_machine(reader);
    for (Fd& descriptor : descriptors) {
        const int number = static_cast<int>(reader.number_up_to(max_packet_descriptors));
        request.descriptors.push_back({number, std::move(descriptor)});
    }
    return request;
}

}  // namespace

std::string encode(const vmm::ProcessRequest& request) {
    Writer writer = begin(Verb::start);
    const auto write_program = [&](const auto& program) {
        using Start = std::remove_cvref_t<decltype(program)>;
        if constexpr (std::is_same_v<Start, vmm::QemuStart>) {
            writer.number(static_cast<std::uint64_t>(Program::qemu)).number(program.kvm ? 1 : 0);
            writer.number(program.tsc_khz).number(program.vhost_net ? 1 : 0);
            writer.number(program.memory_file ? 1 : 0);
            if (program.memory_file) writer.text(*program.memory_file);
            writer.number(program.paused ? 1 : 0);
            write(writer, request.spec);
        } else if constexpr (std::is_same_v<Start, vmm::FirecrackerStart>) {
            writer.number(static_cast<std::uint64_t>(Program::firecracker));
            write(writer, request.spec);
        } else if constexpr (std::is_same_v<Start, vmm::FirecrackerVersion>) {
            writer.number(static_cast<std::uint64_t>(Program::firecracker_version));
        } else if constexpr (std::is_same_v<Start, vmm::QemuVersion>) {
            writer.number(static_cast<std::uint64_t>(Program::qemu_version));
        } else {
            writer.number(static_cast<std::uint64_t>(Program::qemu_trial));
        }
    };
    std::visit(write_program, request.program);
    for (const auto& each : request.descriptors) writer.number(static_cast<std::uint64_t>(each.number));
    return writer.take();
}

std::string encode(const AdoptRequest& request) {
    return begin(Verb::adopt)
        .number(static_cast<std::uint64_t>(request.process.pid))
        .number(request.process.start_time)
        .text(request.directory.string())
        .take();
}

std::string encode(const SignalRequest& request) {
    return begin(Verb::signal)
        .number(request.handle)
        .number(static_cast<std::uint64_t>(request.number))
        .take();
}

std::string encode(const FilesRequest& request) {
    return begin(Verb::files).number(request.handle).take();
}

std::string encode(const ProcessesRequest& /*request*/) {
    return begin(Verb::processes).take();
}

std::string encode(const NetworkRequest& /*request*/) {
    return begin(Verb::network).take();
}

std::string encode(const ReclaimRequest& request) {
    return begin(Verb::reclaim).text(request.directory.string()).take();
}

Result<Request> decode(Packet packet) {
    Reader reader{packet.bytes};
    Request request;
    const auto verb = static_cast<Verb>(reader.number_up_to(static_cast<std::uint64_t>(Verb::reclaim)));
    switch (verb) {
        case Verb::start:
            request = read_start(reader, std::move(packet.descriptors));
            packet.descriptors.clear();
            break;
        case Verb::adopt: {
            AdoptRequest adopt;
            adopt.process.pid = static_cast<pid_t>(reader.number_up_to(largest_pid));
            adopt.process.start_time = reader.number();
            adopt.directory = read_path(reader);
            request = adopt;
            break;
        }
        case Verb::signal: {
            SignalRequest signal;
            signal.handle = reader.number();
            signal.number = static_cast<int>(reader.number_up_to(SIGTERM));
            if (signal.number != SIGTERM && signal.number != SIGKILL) reader.refuse();
            request = signal;
            break;
        }
        case Verb::files:
            request = FilesRequest{reader.number()};
            break;
        case Verb::processes:
            request = ProcessesRequest{};
            break;
        case Verb::network:
            request = NetworkRequest{};
            break;
        case Verb::reclaim:
            request = ReclaimRequest{read_path(reader)};
            break;
        default:
            reader.refuse();
    }
    if (!reader.at_end() || !packet.descriptors.empty()) return fail(Errc::invalid, "not a request");
    return request;
}

}  // namespace noid::privileged
