#include "cli/client_config.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <toml++/toml.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <sstream>

#include "base/fd.hpp"
#include "cli/failure.hpp"

namespace noid::cli {
namespace {

constexpr auto not_configured = "not configured. Run: noid auth setup --url <url> --token <token>";

std::unexpected<Error> malformed(std::string why) {
    return fail(caused_by(Error{Errc::invalid, std::move(why), {}}, "failed to parse config.toml"));
}

// The file's answer, or "not configured": asked only for what flags and variables leave open.
Result<ClientConfig> required_config(const Environment& environment) {
    auto path = config_path(environment);
    if (!path) return fail(path.error());
    auto config = load_config(*path);
    if (!config) return fail(config.error());
    if (!*config) return fail(Errc::invalid, not_configured);
    return std::move(**config);
}

Result<void> write_all(int fd, std::string_view text, const std::string& name) {
    while (!text.empty()) {
        const auto count = ::write(fd, text.data(), text.size());
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return fail_errno(errno, fmt::format("cannot write {}", name));
        text.remove_prefix(static_cast<std::size_t>(count));
    }
    return {};
}

}  // namespace

Result<std::filesystem::path> config_path(const Environment& environment) {
    auto home = environment.home();
    if (!home) return fail(home.error());
    return *home / ".noid" / "config.toml";
}

Result<std::optional<ClientConfig>> load_config(const std::filesystem::path& path) {
    std::ifstream file{path};
    if (!file) {
        const int reason = errno;
        if (reason == ENOENT || reason == ENOTDIR) return std::nullopt;
        return fail_errno(reason, fmt::format("cannot read {}", path.string()));
    }
    std::ostringstream text;
    text << file.rdbuf();

    toml::table table;
    try {
        table = toml::parse(text.view());
    } catch (const toml::parse_error& error) {
        return malformed(fmt::format("{}:{}:{}: {}", path.string(), error.source().begin.line,
                                     error.source().begin.column, error.description()));
    }
    const bool flat = table["server"].is_string();
    const auto url =
        flat ? table["server"].value<std::string>() : table["server"]["url"].value<std::string>();
    const auto token =
        flat ? table["token"].value<std::string>() : table["server"]["token"].value<std::string>();
    if (!url) return malformed(fmt::format("{}: [server] needs a string `url`", path.string()));
    if (!token) return malformed(fmt::format("{}: [server] needs a string `token`", path.string()));
    return ClientConfig{*url, *token};
}

Result<void> save_config(const std::filesystem::path& path, const ClientConfig& config) {
    std::error_code failure;
    const auto directory = path.parent_path();
    if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST)
        return fail_errno(errno, fmt::format("cannot make {}", directory.string()));

    std::ostringstream text;
    text << toml::table{{"server", toml::table{{"url", config.url}, {"token", config.token}}}} << '\n';

    std::string temporary = path.string() + ".XXXXXX";
    const Fd file{::mkostemp(temporary.data(), O_CLOEXEC)};  // makes it 0600
    if (!file) return fail_errno(errno, fmt::format("cannot write {}", path.string()));
    auto written = write_all(file.get(), text.view(), path.string());
    if (written && ::fsync(file.get()) != 0) written = fail_errno(errno, "cannot sync " + path.string());
    if (written && ::rename(temporary.c_str(), path.c_str()) != 0)
        written = fail_errno(errno, fmt::format("cannot write {}", path.string()));
    if (!written) ::unlink(temporary.c_str());
    return written;
}

Result<ServerUrl> resolve_server(const AccountFlags& flags, const Environment& environment) {
    auto url = flags.server;
    if (!url) url = environment.text("NOID_SERVER");
    if (!url) {
        auto config = required_config(environment);
        if (!config) return fail(config.error());
        url = config->url;
    }
    return ServerUrl::parse(*url);
}

Result<Account> resolve_account(const AccountFlags& flags, const Environment& environment) {
    auto server = resolve_server(flags, environment);
    if (!server) return fail(server.error());
    auto token = flags.token;
    if (!token) token = environment.text("NOID_TOKEN");
    if (!token) {
        auto config = required_config(environment);
        if (!config) return fail(config.error());
        token = config->token;
    }
    // It becomes an HTTP header: a line break in it would become another one.
    if (token->find_first_of("\r\n") != std::string::npos || token->find('\0') != std::string::npos)
        return fail(Errc::invalid,
                    "the token holds a line break; copy it again from `noid-server user create`");
    return Account{std::move(*server), std::move(*token)};
}

}  // namespace noid::cli
