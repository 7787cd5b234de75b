#include "cli/active_vm.hpp"

#include <array>
#include <cerrno>
#include <fstream>

namespace noid::cli {
namespace {

namespace fs = std::filesystem;

// The file's content without white space around it; nullopt when that is nothing.
std::optional<std::string> read_name(const fs::path& path) {
    std::error_code ignored;
    if (!fs::is_regular_file(path, ignored)) return std::nullopt;  // ~/.noid is the data directory
    std::ifstream file{path};
    std::array<char, 4096> buffer{};
    file.read(buffer.data(), buffer.size());
    std::string text(buffer.data(), static_cast<std::size_t>(file.gcount()));
    constexpr auto space = " \t\r\n";
    const auto first = text.find_first_not_of(space);
    if (first == std::string::npos) return std::nullopt;
    return text.substr(first, text.find_last_not_of(space) - first + 1);
}

}  // namespace

std::optional<std::string> find_active_vm(const fs::path& directory) {
    for (auto place = directory;; place = place.parent_path()) {
        for (const auto* marker : {".noid-vm", ".noid"}) {
            if (auto name = read_name(place / marker)) return name;
        }
        if (place == place.parent_path()) return std::nullopt;
    }
}

Result<void> set_active_vm(const Environment& environment, const std::string& name) {
    std::ofstream file{environment.working_directory / ".noid-vm"};
    file << name << '\n';
    if (!file.flush()) return fail_errno(errno, "cannot write .noid-vm");
    return {};
}

Result<std::string> vm_or_active(const std::optional<std::string>& argument, const Environment& environment) {
    if (argument) return *argument;
    if (auto name = find_active_vm(environment.working_directory)) return *name;
    return fail(Errc::invalid, "no VM specified. Pass a name or run: noid use <name>");
}

}  // namespace noid::cli
