#include "cli/environment.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdlib>
#include <string_view>

namespace noid::cli {

Result<Environment> Environment::of_process() {
    std::error_code failure;
    auto directory = std::filesystem::current_path(failure);
    if (failure) return fail_errno(failure.value(), "cannot find out the working directory");
    auto read = [](const std::string& name) -> std::optional<std::string> {
        const char* value = std::getenv(name.c_str());
        return value ? std::optional<std::string>{value} : std::nullopt;
    };
    return Environment{read, std::move(directory)};
}

std::optional<std::string> Environment::text(const std::string& name) const {
    auto value = variable(name);
    return value && !value->empty() ? value : std::nullopt;
}

bool Environment::truthy(const std::string& name) const {
    auto value = text(name);
    if (!value) return false;
    std::ranges::transform(*value, value->begin(),
                           [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    constexpr std::array<std::string_view, 4> yes{"1", "true", "yes", "on"};
    return std::ranges::find(yes, *value) != yes.end();
}

Result<std::filesystem::path> Environment::home() const {
    auto value = text("HOME");
    if (!value) return fail(Errc::invalid, "HOME is not set: it says where .noid/config.toml is");
    return std::filesystem::path{*value};
}

}  // namespace noid::cli
