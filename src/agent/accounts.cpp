#include "agent/accounts.hpp"

#include <array>
#include <charconv>
#include <optional>

#include "agent/text_file.hpp"

namespace noid::agent {
namespace {

constexpr std::size_t max_file = 4 * 1024 * 1024;
constexpr std::size_t max_groups = 65536;  // NGROUPS_MAX

// The first N ':'-separated fields of a line; nothing when there are fewer.
template <std::size_t N>
std::optional<std::array<std::string_view, N>> fields_of(std::string_view line) {
    std::array<std::string_view, N> fields;
    for (std::size_t i = 0; i < N; ++i) {
        const std::size_t end = line.find(':');
        if (end == std::string_view::npos && i + 1 < N) return std::nullopt;
        fields[i] = line.substr(0, end);
        line.remove_prefix(std::min(line.size(), fields[i].size() + 1));
    }
    return fields;
}

// Calls `each` with every line until it returns true.
template <class Each>
void for_each_part(std::string_view text, char separator, Each each) {
    while (!text.empty()) {
        const std::string_view part = text.substr(0, text.find(separator));
        text.remove_prefix(std::min(text.size(), part.size() + 1));
        if (each(part)) return;
    }
}

std::optional<std::uint32_t> number(std::string_view text) {
    std::uint32_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    return value;
}

// The passwd entry that `matches`, put into `account`.
template <class Matches>
bool read_passwd(std::string_view passwd, Account& account, Matches matches) {
    bool found = false;
    for_each_part(passwd, '\n', [&](std::string_view line) {
        const auto fields = fields_of<7>(line);
        if (!fields) return false;
        const auto& [name, password, uid_text, gid_text, comment, home, shell] = *fields;
        const auto uid = number(uid_text);
        const auto gid = number(gid_text);
        if (!uid || !gid || !matches(name, *uid)) return false;
        account = {.uid = *uid, .gid = *gid, .groups = {}, .name = std::string{name}};
        account.home = home.empty() ? "/" : std::string{home};
        account.shell = shell.empty() ? "/bin/sh" : std::string{shell};
        return found = true;
    });
    return found;
}

void read_groups(std::string_view group, Account& account) {
    account.groups = {account.gid};
    for_each_part(group, '\n', [&](std::string_view line) {
        const auto fields = fields_of<4>(line);
        const auto gid = fields ? number((*fields)[2]) : std::nullopt;
        if (!gid || *gid == account.gid) return false;
        for_each_part((*fields)[3], ',', [&](std::string_view member) {
            if (member != account.name) return false;
            account.groups.push_back(*gid);
            return true;
        });
        return account.groups.size() >= max_groups;
    });
}

}  // namespace

Result<Account> find_account(const std::string& user, std::string_view passwd, std::string_view group) {
    Account account;
    const auto colon = user.find(':');
    const auto uid = user.empty() ? std::uint32_t{0} : number(std::string_view{user}.substr(0, colon));
    if (!uid) {
        const auto by_name = [&](std::string_view name, std::uint32_t) { return name == user; };
        if (!read_passwd(passwd, account, by_name))
            return fail(Errc::not_found, "the guest's /etc/passwd has no user '" + user + "'");
    } else if (!read_passwd(passwd, account,
                            [&](std::string_view, std::uint32_t entry) { return entry == *uid; })) {
        // An image may lack the file, and numbers need no entry.
        if (*uid != 0)
            account = {.uid = *uid, .gid = *uid, .groups = {}, .name = std::to_string(*uid), .home = "/"};
    }
    if (uid && colon != std::string::npos) {
        const auto gid = number(std::string_view{user}.substr(colon + 1));
        if (!gid) return fail(Errc::invalid, "user '" + user + "' is neither a name nor uid[:gid]");
        account.gid = *gid;
    }
    read_groups(group, account);
    return account;
}

Result<Account> find_account(const std::string& user) {
    return find_account(user, read_text_file("/etc/passwd", max_file).value_or(""),
                        read_text_file("/etc/group", max_file).value_or(""));
}

}  // namespace noid::agent
