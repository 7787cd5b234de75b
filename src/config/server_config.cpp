#include "config/server_config.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>
#include <unistd.h>

#include <toml++/toml.h>
#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <variant>

namespace noid::config {
namespace {

namespace fs = std::filesystem;

// A value as a file, a variable or a flag gave it, before it is known what the key wants.
using Raw = std::variant<std::string, std::int64_t, bool>;
// What is wrong with a value: what was expected.
using Expected = std::expected<void, std::string>;

std::string home_directory(const ConfigSource& source) {
    if (source.environment) {
        if (auto home = source.environment("HOME"); home && !home->empty()) return *home;
    }
    return "/root";
}

// One key of server.toml. The same key can be set by NOID_<NAME> and by --<name>.
struct Key {
    const char* table;
    const char* name;
    const char* flat;  // the spelling of older, flat files; nullptr: none
    std::function<Expected(ServerConfig&, const Raw&)> set;

    [[nodiscard]] std::string dotted() const { return fmt::format("{}.{}", table, name); }
    // `listen` of [server] is NOID_LISTEN and --listen; keys of other tables carry the table's name.
    [[nodiscard]] std::string flag() const {
        std::string text = std::string_view{table} == "server" || std::string_view{table} == "paths"
                               ? std::string{name}
                               : dotted();
        for (char& c : text) {
            if (c == '.' || c == '_') c = '-';
        }
        return text;
    }
    [[nodiscard]] std::string variable() const {
        std::string text = "NOID_";
        for (const char c : flag())
            text.push_back(c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c))));
        return text;
    }
};

std::string kind_of(const Raw& raw) {
    if (std::holds_alternative<std::string>(raw)) return fmt::format("\"{}\"", std::get<std::string>(raw));
    if (std::holds_alternative<bool>(raw)) return std::get<bool>(raw) ? "true" : "false";
    return std::to_string(std::get<std::int64_t>(raw));
}

template <class Assign>
auto text(Assign assign, std::size_t max = 4096) {
    return [assign, max](ServerConfig& config, const Raw& raw) -> Expected {
        const auto* value = std::get_if<std::string>(&raw);
        if (!value) return std::unexpected("a string");
        if (value->size() > max) return std::unexpected(fmt::format("a string of at most {} bytes", max));
        if (value->find('\0') != std::string::npos) return std::unexpected("a string without NUL");
        assign(config, *value);
        return {};
    };
}

template <class Assign>
auto path(Assign assign) {
    return [assign](ServerConfig& config, const Raw& raw) -> Expected {
        const auto* value = std::get_if<std::string>(&raw);
        if (!value || value->empty() || value->find('\0') != std::string::npos)
            return std::unexpected("a path");
        assign(config, fs::path{*value});
        return {};
    };
}

std::optional<std::int64_t> integer_of(const Raw& raw) {
    if (const auto* number = std::get_if<std::int64_t>(&raw)) return *number;
    return std::nullopt;
}

template <class Assign>
auto number(std::int64_t min, std::int64_t max, const char* unit, Assign assign) {
    return [=](ServerConfig& config, const Raw& raw) -> Expected {
        const auto value = integer_of(raw);
        if (!value || *value < min || *value > max) {
            return std::unexpected(
                fmt::format("a whole number{}{} from {} to {}", *unit ? " of " : "", unit, min, max));
        }
        assign(config, *value);
        return {};
    };
}

// Of a disk, per second; 0: not limited.
template <class Field>
auto rate(Field field) {
    constexpr std::int64_t most = 1'000'000'000'000;
    return number(0, most, "", [field](ServerConfig& config, std::int64_t value) {
        field(config) = static_cast<std::uint64_t>(value);
    });
}

template <class Assign>
auto boolean(Assign assign) {
    return [assign](ServerConfig& config, const Raw& raw) -> Expected {
        const auto* value = std::get_if<bool>(&raw);
        if (!value) return std::unexpected("true or false");
        assign(config, *value);
        return {};
    };
}

template <class Enum, std::size_t N, class Assign>
auto one_of(std::array<std::pair<const char*, Enum>, N> choices, Assign assign) {
    return [choices, assign](ServerConfig& config, const Raw& raw) -> Expected {
        const auto* value = std::get_if<std::string>(&raw);
        for (const auto& [name, choice] : choices) {
            if (value && *value == name) {
                assign(config, choice);
                return {};
            }
        }
        std::vector<std::string> names;
        for (const auto& [name, choice] : choices) names.push_back(fmt::format("\"{}\"", name));
        return std::unexpected(fmt::format("one of {}", fmt::join(names, ", ")));
    };
}

// "host:port", "[v6]:port" or ":port".
bool is_listen_address(std::string_view value) {
    const auto colon = value.rfind(':');
    if (colon == std::string_view::npos) return false;
    const auto port_text = value.substr(colon + 1);
    unsigned port = 0;
    const auto [end, error] = std::from_chars(port_text.data(), port_text.data() + port_text.size(), port);
    if (error != std::errc{} || end != port_text.data() + port_text.size() || port > 65535) return false;
    const auto host = value.substr(0, colon);
    if (host.starts_with('[')) return host.ends_with(']') && host.size() > 2;
    return host.find(':') == std::string_view::npos;
}

template <class Assign>
auto listen_address(Assign assign) {
    return [assign](ServerConfig& config, const Raw& raw) -> Expected {
        const auto* value = std::get_if<std::string>(&raw);
        if (!value || !is_listen_address(*value))
            return std::unexpected("an address such as \"127.0.0.1:7654\"");
        assign(config, *value);
        return {};
    };
}

// "agent" or an absolute path, without white space: it becomes a word of the kernel's command line.
Expected set_guest_init(ServerConfig& config, const Raw& raw) {
    const auto* value = std::get_if<std::string>(&raw);
    const bool fits = value && value->size() <= 256 && (*value == "agent" || value->starts_with('/')) &&
                      value->find_first_of(" \t\n\"\\") == std::string::npos;
    if (!fits) return std::unexpected("\"agent\" or an absolute path such as \"/sbin/init\"");
    config.guest.init = *value;
    return {};
}

// "20000-29999".
Expected set_ingress_ports(ServerConfig& config, const Raw& raw) {
    const auto* value = std::get_if<std::string>(&raw);
    unsigned first = 0;
    unsigned last = 0;
    if (value) {
        const char* const end = value->data() + value->size();
        const auto [dash, bad_first] = std::from_chars(value->data(), end, first);
        if (bad_first == std::errc{} && dash != end && *dash == '-') {
            const auto [stop, bad_last] = std::from_chars(dash + 1, end, last);
            if (bad_last != std::errc{} || stop != end) last = 0;
        }
    }
    if (first == 0 || last < first || last > 65535)
        return std::unexpected("a range of ports such as \"20000-29999\"");
    config.ingress.first_port = static_cast<std::uint16_t>(first);
    config.ingress.last_port = static_cast<std::uint16_t>(last);
    return {};
}

constexpr std::int64_t million = 1'000'000;

const std::vector<Key>& keys() {
    using C = ServerConfig;
    static const std::vector<Key> all = {
        {"server", "listen", "listen", listen_address([](C& c, auto v) { c.server.listen = v; })},
        {"server", "timeout", nullptr,
         number(100, 3'600'000, "milliseconds",
                [](C& c, auto v) { c.server.timeout = std::chrono::milliseconds{v}; })},
        {"server", "workers", nullptr,
         number(1, 256, "", [](C& c, auto v) { c.server.workers = static_cast<std::uint32_t>(v); })},
        {"server", "max_ws_sessions", "max_ws_sessions",
         number(1, million, "",
                [](C& c, auto v) { c.server.max_ws_sessions = static_cast<std::uint32_t>(v); })},
        {"server", "trust_forwarded_for", "trust_forwarded_for",
         boolean([](C& c, bool v) { c.server.trust_forwarded_for = v; })},
        {"server", "exec_timeout_secs", "exec_timeout_secs",
         number(1, 86'400, "seconds", [](C& c, auto v) { c.server.exec_timeout = std::chrono::seconds{v}; })},
        {"server", "console_timeout_secs", "console_timeout_secs",
         number(1, 604'800, "seconds",
                [](C& c, auto v) { c.server.console_timeout = std::chrono::seconds{v}; })},
        {"server", "metrics_listen", nullptr,
         listen_address([](C& c, auto v) { c.server.metrics_listen = v; })},
        {"server", "user", nullptr, text([](C& c, auto v) { c.server.user = v; }, 32)},
        {"server", "domain", nullptr, text([](C& c, auto v) { c.server.domain = v; }, 253)},
        {"ingress", "address", nullptr, text([](C& c, auto v) { c.ingress.address = v; }, 64)},
        {"ingress", "ports", nullptr, set_ingress_ports},
        {"ingress", "max_connections_per_vm", nullptr,
         number(1, 200, "",
                [](C& c, auto v) { c.ingress.max_connections_per_vm = static_cast<std::uint32_t>(v); })},
        {"ingress", "https", nullptr, boolean([](C& c, bool v) { c.ingress.https = v; })},
        {"paths", "kernel", "kernel", path([](C& c, auto v) { c.paths.kernel = v; })},
        {"paths", "initrd", nullptr, path([](C& c, auto v) { c.paths.initrd = v; })},
        {"paths", "rootfs", "rootfs", path([](C& c, auto v) { c.paths.rootfs = v; })},
        {"paths", "data_dir", nullptr, path([](C& c, auto v) { c.paths.data_dir = v; })},
        {"paths", "netd_socket", nullptr, path([](C& c, auto v) { c.paths.netd_socket = v; })},
        {"limits", "max_vms", nullptr,
         number(0, million, "", [](C& c, auto v) { c.limits.max_vms = static_cast<std::uint32_t>(v); })},
        {"limits", "max_memory_per_vm", nullptr,
         number(32, 16 * million, "MiB",
                [](C& c, auto v) { c.limits.max_memory_per_vm = MiB{static_cast<std::uint64_t>(v)}; })},
        {"limits", "max_vcpus_per_vm", nullptr,
         number(1, 512, "", [](C& c, auto v) { c.limits.max_vcpus_per_vm = static_cast<std::uint32_t>(v); })},
        {"limits", "max_disk_per_vm", nullptr,
         number(16, 16 * million, "MiB",
                [](C& c, auto v) { c.limits.max_disk_per_vm = MiB{static_cast<std::uint64_t>(v)}; })},
        {"limits", "max_memory", nullptr,
         number(0, 16 * million, "MiB",
                [](C& c, auto v) { c.limits.max_memory = MiB{static_cast<std::uint64_t>(v)}; })},
        {"limits", "max_vcpus", nullptr,
         number(0, million, "", [](C& c, auto v) { c.limits.max_vcpus = static_cast<std::uint32_t>(v); })},
        {"limits", "max_disk", nullptr,
         number(0, 1000 * million, "MiB",
                [](C& c, auto v) { c.limits.max_disk = MiB{static_cast<std::uint64_t>(v)}; })},
        {"limits", "disk_bytes_per_second", nullptr,
         rate([](C & c) -> auto& { return c.limits.disk_bytes_per_second; })},
        {"limits", "disk_ops_per_second", nullptr,
         rate([](C & c) -> auto& { return c.limits.disk_ops_per_second; })},
        {"limits", "max_disk_bytes_per_second", nullptr,
         rate([](C & c) -> auto& { return c.limits.max_disk_bytes_per_second; })},
        {"limits", "max_disk_ops_per_second", nullptr,
         rate([](C & c) -> auto& { return c.limits.max_disk_ops_per_second; })},
        {"limits", "max_sessions_per_vm", nullptr,
         number(1, 256, "",
                [](C& c, auto v) { c.limits.max_sessions_per_vm = static_cast<std::uint32_t>(v); })},
        {"limits", "max_body_bytes", nullptr,
         number(4096, 64 << 20, "bytes",
                [](C& c, auto v) { c.limits.max_body_bytes = static_cast<std::uint64_t>(v); })},
        {"logging", "level", nullptr,
         one_of(std::array{std::pair{"debug", C::Logging::Level::debug},
                           std::pair{"info", C::Logging::Level::info},
                           std::pair{"warn", C::Logging::Level::warn},
                           std::pair{"error", C::Logging::Level::error}},
                [](C& c, auto v) { c.logging.level = v; })},
        {"logging", "format", nullptr,
         one_of(std::array{std::pair{"text", C::Logging::Format::text},
                           std::pair{"json", C::Logging::Format::json}},
                [](C& c, auto v) { c.logging.format = v; })},
        {"vmm", "kind", nullptr,
         one_of(
             std::array{std::pair{"auto", C::Vmm::Choice::automatic}, std::pair{"qemu", C::Vmm::Choice::qemu},
                        std::pair{"firecracker", C::Vmm::Choice::firecracker}},
             [](C& c, auto v) { c.vmm.kind = v; })},
        {"vmm", "firecracker", nullptr, path([](C& c, auto v) { c.vmm.firecracker = v; })},
        {"vmm", "qemu", nullptr, path([](C& c, auto v) { c.vmm.qemu = v; })},
        {"vmm", "accelerator", nullptr,
         one_of(std::array{std::pair{"auto", C::Vmm::Accelerator::automatic},
                           std::pair{"kvm", C::Vmm::Accelerator::kvm},
                           std::pair{"tcg", C::Vmm::Accelerator::tcg}},
                [](C& c, auto v) { c.vmm.accelerator = v; })},
        {"vmm", "jail", nullptr,
         one_of(
             std::array{std::pair{"auto", C::Vmm::Jail::automatic}, std::pair{"never", C::Vmm::Jail::never}},
             [](C& c, auto v) { c.vmm.jail = v; })},
        {"vmm", "first_uid", nullptr,
         number(1000, 4'000'000'000, "",
                [](C& c, auto v) { c.vmm.first_uid = static_cast<std::uint32_t>(v); })},
        {"vmm", "uids", nullptr,
         number(1, million, "", [](C& c, auto v) { c.vmm.uids = static_cast<std::uint32_t>(v); })},
        {"guest", "init", nullptr, set_guest_init},
        {"guest", "boot_timeout_secs", nullptr,
         number(1, 3600, "seconds", [](C& c, auto v) { c.guest.boot_timeout = std::chrono::seconds{v}; })},
        {"guest", "kernel_arguments", nullptr,
         text([](C& c, auto v) { c.guest.extra_kernel_arguments = v; }, 1024)},
        {"storage", "pool", nullptr,
         one_of(std::array{std::pair{"auto", C::Storage::Pool::automatic},
                           std::pair{"never", C::Storage::Pool::never}},
                [](C& c, auto v) { c.storage.pool = v; })},
        {"storage", "pool_size", nullptr,
         number(128, 16 * million, "MiB",
                [](C& c, auto v) { c.storage.pool_size = MiB{static_cast<std::uint64_t>(v)}; })},
        {"storage", "template_budget", nullptr,
         number(0, 16 * million, "MiB",
                [](C& c, auto v) { c.storage.template_budget = MiB{static_cast<std::uint64_t>(v)}; })},
        {"pool", "size", nullptr,
         number(0, 1000, "", [](C& c, auto v) { c.pool.size = static_cast<std::uint32_t>(v); })},
        {"pool", "memory", nullptr,
         number(0, 16 * million, "MiB",
                [](C& c, auto v) { c.pool.memory = MiB{static_cast<std::uint64_t>(v)}; })},
    };
    return all;
}

Result<void> apply(ServerConfig& config, const Key& key, const Raw& raw, const std::string& where) {
    auto set = key.set(config, raw);
    if (set) return {};
    return fail(Errc::invalid,
                fmt::format("{}: {} is {}, expected {}", where, key.dotted(), kind_of(raw), set.error()));
}

std::string position(const std::string& file, const toml::node& node) {
    const auto& at = node.source().begin;
    return fmt::format("{}:{}:{}", file, at.line, at.column);
}

Result<Raw> raw_of(const toml::node& node, const std::string& where, const std::string& name) {
    if (const auto* value = node.as_string()) return Raw{value->get()};
    if (const auto* value = node.as_integer()) return Raw{value->get()};
    if (const auto* value = node.as_boolean()) return Raw{value->get()};
    return fail(Errc::invalid,
                fmt::format("{}: {} must be a string, a whole number, true or false", where, name));
}

std::string nearest_names(std::string_view table) {
    std::vector<std::string> names;
    for (const auto& key : keys()) {
        if (table == key.table) names.emplace_back(key.name);
    }
    return fmt::format("{}", fmt::join(names, ", "));
}

bool is_table_name(std::string_view name) {
    return std::ranges::any_of(keys(), [&](const Key& key) { return name == key.table; });
}

// One assignment of the file, so that a key given flat and in its table can be compared.
struct Assignment {
    const Key* key;
    Raw value;
    std::string where;
};

Result<void> collect(const toml::table& root, const std::string& file, std::vector<Assignment>& out) {
    for (const auto& [name_node, node] : root) {
        const std::string name{name_node.str()};
        const std::string where = position(file, node);
        if (const auto* table = node.as_table()) {
            if (!is_table_name(name)) {
                return fail(Errc::invalid, fmt::format("{}: unknown table [{}]; known: server, ingress, "
                                                       "paths, limits, logging, vmm, guest, storage, pool",
                                                       where, name));
            }
            for (const auto& [inner_name, inner] : *table) {
                const std::string inner_text{inner_name.str()};
                const std::string inner_where = position(file, inner);
                const auto key = std::ranges::find_if(
                    keys(), [&](const Key& k) { return name == k.table && inner_text == k.name; });
                if (key == keys().end()) {
                    return fail(Errc::invalid,
                                fmt::format("{}: unknown key '{}' in [{}]; known: {}", inner_where,
                                            inner_text, name, nearest_names(name)));
                }
                auto raw = raw_of(inner, inner_where, key->dotted());
                if (!raw) return fail(raw.error());
                out.push_back({&*key, *raw, inner_where});
            }
            continue;
        }
        const auto key = std::ranges::find_if(keys(), [&](const Key& k) { return k.flat && name == k.flat; });
        if (key == keys().end()) {
            const auto placed = std::ranges::find_if(keys(), [&](const Key& k) { return name == k.name; });
            const std::string hint =
                placed == keys().end() ? "" : fmt::format("; '{}' belongs into [{}]", name, placed->table);
            return fail(Errc::invalid, fmt::format("{}: unknown key '{}'{}", where, name, hint));
        }
        auto raw = raw_of(node, where, name);
        if (!raw) return fail(raw.error());
        out.push_back({&*key, *raw, where});
    }
    return {};
}

Result<void> apply_file(ServerConfig& config, const fs::path& file) {
    std::error_code error;
    if (!fs::exists(file, error)) {
        return fail(Errc::not_found,
                    fmt::format("failed to read config file '{}': no such file; give one with --config",
                                file.string()));
    }
    if (fs::is_regular_file(file, error) && fs::file_size(file, error) > (1 << 20)) {
        return fail(Errc::too_large,
                    fmt::format("failed to read config file '{}': larger than 1 MiB", file.string()));
    }
    // toml++ reports a syntax error by exception; this is where it ends.
    toml::table root;
    try {
        root = toml::parse_file(file.string());
    } catch (const toml::parse_error& problem) {
        const auto& at = problem.source().begin;
        return fail(Errc::invalid,
                    fmt::format("failed to parse config file '{}': {}:{}:{}: {}", file.string(),
                                file.string(), at.line, at.column, problem.description()));
    }
    std::vector<Assignment> assignments;
    if (auto done = collect(root, file.string(), assignments); !done) return done;
    for (std::size_t i = 0; i < assignments.size(); ++i) {
        const auto& now = assignments[i];
        for (std::size_t j = 0; j < i; ++j) {
            const auto& before = assignments[j];
            if (before.key == now.key && before.value != now.value) {
                return fail(
                    Errc::invalid,
                    fmt::format("{}: {} is {}, but {} at {} gives another value; keep one", now.where,
                                now.key->dotted(), kind_of(now.value), kind_of(before.value), before.where));
            }
        }
        if (auto done = apply(config, *now.key, now.value, now.where); !done) return done;
    }
    return {};
}

// Variables and flags are text: a value that reads as a number or a truth value is one where the
// key wants it.
Result<void> apply_text(ServerConfig& config, const Key& key, const std::string& value,
                        const std::string& where) {
    if (key.set(config, Raw{value})) return {};
    std::int64_t parsed = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), parsed);
    if (error == std::errc{} && end == value.data() + value.size())
        return apply(config, key, Raw{parsed}, where);
    if (value == "true" || value == "false") return apply(config, key, Raw{value == "true"}, where);
    return apply(config, key, Raw{value}, where);
}

fs::path expand(const fs::path& path, const std::string& home) {
    const std::string& text = path.native();
    if (text == "~") return home;
    if (text.starts_with("~/")) return fs::path{home} / text.substr(2);
    if (text.empty()) return path;
    return fs::absolute(path);
}

void fill_paths(ServerConfig& config, const std::string& home) {
    auto& paths = config.paths;
    if (paths.data_dir.empty()) paths.data_dir = "~/.noid";
    paths.data_dir = expand(paths.data_dir, home).lexically_normal();
    const fs::path images = paths.data_dir / "images";
    paths.kernel = paths.kernel.empty() ? images / "vmlinux" : expand(paths.kernel, home);
    paths.initrd = paths.initrd.empty() ? images / "initrd.cpio" : expand(paths.initrd, home);
    paths.rootfs = paths.rootfs.empty() ? images / "debian-12.ext4" : expand(paths.rootfs, home);
    paths.netd_socket = expand(paths.netd_socket, home);
    config.vmm.firecracker = expand(config.vmm.firecracker, home);
    config.vmm.qemu = expand(config.vmm.qemu, home);
}

}  // namespace

std::optional<fs::path> find_config(const ConfigSource& source, bool in_working_directory) {
    if (source.file) return expand(*source.file, home_directory(source));
    std::vector<fs::path> places;
    if (in_working_directory) places.emplace_back("server.toml");
    places.push_back(fs::path{home_directory(source)} / ".noid" / "server.toml");
    places.emplace_back("/etc/noid/server.toml");
    std::error_code ignored;
    for (const auto& place : places) {
        if (fs::exists(place, ignored)) return place;
    }
    return std::nullopt;
}

namespace {

// The data directory is one of the places that are searched, and a server that root starts there is another
// user: he must not be the one to say what root does next.
Result<void> check_owner(const ConfigSource& source, const fs::path& file) {
    struct stat status {};
    if (source.file || ::geteuid() != 0 || ::stat(file.c_str(), &status) != 0 || status.st_uid == 0)
        return {};
    return fail(Errc::forbidden,
                fmt::format("'{}' belongs to user {}, not to root: name it with --config if you mean it",
                            file.string(), status.st_uid));
}

}  // namespace

std::vector<Setting> settings() {
    std::vector<Setting> all;
    for (const auto& key : keys()) all.push_back({key.dotted(), key.flag(), key.variable()});
    return all;
}

Result<ServerConfig> load_server_config(const ConfigSource& source, bool in_working_directory) {
    ServerConfig config;
    if (const auto file = find_config(source, in_working_directory)) {
        if (auto trusted = check_owner(source, *file); !trusted) return fail(trusted.error());
        if (auto done = apply_file(config, *file); !done) return fail(done.error());
    }
    for (const auto& key : keys()) {
        if (!source.environment) break;
        const auto value = source.environment(key.variable());
        if (!value) continue;
        if (auto done = apply_text(config, key, *value, key.variable()); !done) return fail(done.error());
    }
    for (const auto& [flag, value] : source.flags) {
        const auto key = std::ranges::find_if(keys(), [&](const Key& k) { return k.flag() == flag; });
        if (key == keys().end()) return fail(Errc::invalid, fmt::format("unknown setting '--{}'", flag));
        if (auto done = apply_text(config, *key, value, "--" + flag); !done) return fail(done.error());
    }
    fill_paths(config, home_directory(source));
    return config;
}

}  // namespace noid::config
