#include "wire/names.hpp"

#include <algorithm>

#include "wire/utf8.hpp"

namespace noid::wire {

namespace {

bool is_letter(char c) noexcept {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
bool is_digit(char c) noexcept {
    return c >= '0' && c <= '9';
}

bool is_env_key(std::string_view key) noexcept {
    if (key.empty() || is_digit(key.front())) return false;
    return std::all_of(key.begin(), key.end(),
                       [](char c) { return is_letter(c) || is_digit(c) || c == '_'; });
}

Result<void> check_env_entry(std::string_view entry) {
    const std::size_t equals = entry.find('=');
    if (equals == std::string_view::npos)
        return fail(Errc::invalid, "invalid env var (expected KEY=VALUE): " + clipped(entry));
    const std::string_view key = entry.substr(0, equals);
    const std::string_view value = entry.substr(equals + 1);
    if (!is_env_key(key)) return fail(Errc::invalid, "invalid env var name: " + clipped(key));
    if (value.size() > max_env_value)
        return fail(Errc::invalid, "env var value too long for " + clipped(key) + " (" +
                                       std::to_string(value.size()) + " bytes, max " +
                                       std::to_string(max_env_value) + ")");
    if (value.find('\0') != std::string_view::npos)
        return fail(Errc::invalid, "env var value contains a NUL byte: " + clipped(key));
    return {};
}

}  // namespace

Result<void> check_vm_name(std::string_view name) {
    if (name.empty()) return fail(Errc::invalid, "VM name cannot be empty");
    if (name.size() > max_vm_name) return fail(Errc::invalid, "VM name too long (max 64 characters)");
    if (name.front() == '.' || name.front() == '-')
        return fail(Errc::invalid, "VM name cannot start with . or -");
    if (name.find("..") != std::string_view::npos) return fail(Errc::invalid, "VM name cannot contain '..'");
    const bool allowed = std::all_of(name.begin(), name.end(), [](char c) {
        return is_letter(c) || is_digit(c) || c == '_' || c == '-' || c == '.';
    });
    if (!allowed)
        return fail(Errc::invalid,
                    "VM name contains invalid characters (only a-z, A-Z, 0-9, _, -, . allowed)");
    return {};
}

Result<void> check_env(std::span<const std::string> env) {
    if (env.size() > max_env_vars)
        return fail(Errc::invalid, "too many env vars (" + std::to_string(env.size()) + ", max " +
                                       std::to_string(max_env_vars) + ")");
    for (const std::string& entry : env) {
        if (auto checked = check_env_entry(entry); !checked) return checked;
    }
    return {};
}

std::string clipped(std::string_view text, std::size_t limit) {
    if (text.size() <= limit) return to_utf8(text);
    return to_utf8(text.substr(0, limit)) + "…";
}

}  // namespace noid::wire
