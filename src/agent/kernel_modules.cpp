#include "agent/kernel_modules.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <memory>
#include <optional>
#include <system_error>

#include "agent/kernel_log.hpp"
#include "base/fd.hpp"

namespace noid::agent {

namespace {

constexpr std::size_t max_modules = 256;

std::optional<std::uint32_t> parse_number(std::string_view text, int base) {
    std::uint32_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, base);
    if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    return number;
}

std::optional<ModuleCondition> parse_condition(std::string_view text) {
    using Kind = ModuleCondition::Kind;
    if (text == "always") return ModuleCondition{};
    const auto colon = text.find(':');
    if (colon == std::string_view::npos) return std::nullopt;
    const auto bus = text.substr(0, colon);
    const auto id = text.substr(colon + 1);
    if (bus == "virtio") {
        if (const auto number = parse_number(id, 10)) return ModuleCondition{Kind::virtio, *number};
    } else if (bus == "pci") {
        if (const auto number = parse_number(id, 16)) return ModuleCondition{Kind::pci, *number};
    }
    return std::nullopt;
}

std::optional<KernelModule> parse_line(std::string_view line) {
    const auto first = line.find(' ');
    const auto second = first == std::string_view::npos ? first : line.find(' ', first + 1);
    if (second == std::string_view::npos) return std::nullopt;

    KernelModule module;
    const auto stage = line.substr(0, first);
    if (stage == "late") {
        module.stage = ModuleStage::late;
    } else if (stage != "early") {
        return std::nullopt;
    }
    module.file = line.substr(first + 1, second - first - 1);
    if (module.file.empty() || module.file.find('/') != std::string::npos) return std::nullopt;
    const auto condition = parse_condition(line.substr(second + 1));
    if (!condition) return std::nullopt;
    module.condition = *condition;
    return module;
}

// The ids that the devices of one bus have in the attribute `attribute`.
std::vector<std::uint32_t> device_ids(const char* bus_directory, const char* attribute) {
    std::vector<std::uint32_t> ids;
    const std::unique_ptr<DIR, int (*)(DIR*)> directory{::opendir(bus_directory), &::closedir};
    if (!directory) return ids;
    while (const dirent* entry = ::readdir(directory.get())) {
        if (entry->d_name[0] == '.') continue;
        const std::string path = fmt::format("{}/{}", entry->d_name, attribute);
        const Fd file{::openat(::dirfd(directory.get()), path.c_str(), O_RDONLY | O_CLOEXEC)};
        std::array<char, 16> buffer{};
        const ssize_t size = file ? ::read(file.get(), buffer.data(), buffer.size()) : -1;
        if (size < 3) continue;
        std::string_view text{buffer.data(), static_cast<std::size_t>(size)};
        text = text.substr(2, text.find('\n') - 2);  // "0x0002\n"
        if (const auto id = parse_number(text, 16)) ids.push_back(*id);
    }
    return ids;
}

// Which devices there are. A bus is looked at when the first module asks for it: by then the
// modules before it have made its devices appear.
class Devices {
  public:
    bool have(const ModuleCondition& condition) {
        switch (condition.kind) {
            case ModuleCondition::Kind::always:
                return true;
            case ModuleCondition::Kind::virtio:
                if (!virtio_) virtio_ = device_ids("/sys/bus/virtio/devices", "device");
                return std::ranges::find(*virtio_, condition.id) != virtio_->end();
            case ModuleCondition::Kind::pci:
                if (!pci_vendors_) pci_vendors_ = device_ids("/sys/bus/pci/devices", "vendor");
                return std::ranges::find(*pci_vendors_, condition.id) != pci_vendors_->end();
        }
        return false;
    }

  private:
    std::optional<std::vector<std::uint32_t>> virtio_;
    std::optional<std::vector<std::uint32_t>> pci_vendors_;
};

}  // namespace

Result<std::vector<KernelModule>> parse_module_order(std::string_view text) {
    std::vector<KernelModule> order;
    while (!text.empty()) {
        const auto line = text.substr(0, text.find('\n'));
        text.remove_prefix(std::min(text.size(), line.size() + 1));
        if (line.empty()) continue;
        auto module = parse_line(line);
        if (!module) return fail(Errc::corrupt, fmt::format("modules/order: no such line as '{:.80}'", line));
        if (order.size() == max_modules) return fail(Errc::too_large, "modules/order: too many modules");
        order.push_back(*std::move(module));
    }
    return order;
}

void load_modules(int modules, std::span<const KernelModule> order, ModuleStage stage) {
    Devices devices;
    for (const auto& module : order) {
        if (module.stage != stage || !devices.have(module.condition)) continue;
        const Fd file{::openat(modules, module.file.c_str(), O_RDONLY | O_CLOEXEC)};
        if (file && ::syscall(SYS_finit_module, file.get(), "", 0) == 0) continue;
        if (file && errno == EEXIST) continue;
        // A kernel that somebody brought: the initrd's modules are not its own, and it may need none.
        if (file && (errno == ENOSYS || errno == ENOEXEC)) {
            kernel_log(LogLevel::info,
                       errno == ENOSYS ? "this kernel takes no modules: what it has is built in"
                                       : "the initrd's modules are for another kernel: what this one has is "
                                         "built in");
            return;
        }
        kernel_log(LogLevel::error, fmt::format("cannot load kernel module {}: {}", module.file,
                                                std::generic_category().message(errno)));
    }
}

}  // namespace noid::agent
