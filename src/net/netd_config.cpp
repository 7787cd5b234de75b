#include "net/netd_config.hpp"

#include <fmt/format.h>

#include <toml++/toml.h>
#include <functional>
#include <map>
#include <string_view>

namespace noid::net {

namespace {

namespace fs = std::filesystem;

// What was expected of a value that does not fit.
using Wanted = std::expected<void, std::string>;
using Setter = std::function<Wanted(NetdConfig&, const toml::node&)>;

template <class Assign>
Setter path(Assign assign) {
    return [assign](NetdConfig& config, const toml::node& node) -> Wanted {
        const auto text = node.value_exact<std::string>();
        if (!text || !text->starts_with('/')) return std::unexpected("an absolute path");
        assign(config) = *text;
        return {};
    };
}

template <class Assign>
Setter text(Assign assign, std::size_t longest) {
    return [assign, longest](NetdConfig& config, const toml::node& node) -> Wanted {
        const auto value = node.value_exact<std::string>();
        const bool fits =
            value && value->size() <= longest && value->find_first_of(" \t\n/\"'") == value->npos;
        if (!fits) return std::unexpected(fmt::format("a name of at most {} characters", longest));
        assign(config) = *value;
        return {};
    };
}

template <class Assign>
Setter number(std::int64_t least, std::int64_t most, Assign assign) {
    return [=](NetdConfig& config, const toml::node& node) -> Wanted {
        const auto value = node.value_exact<std::int64_t>();
        if (!value || *value < least || *value > most)
            return std::unexpected(fmt::format("a whole number from {} to {}", least, most));
        assign(config) = static_cast<std::uint32_t>(*value);
        return {};
    };
}

std::optional<Ipv4> parse_address(std::string_view text) {
    boost::system::error_code error;
    const auto address = boost::asio::ip::make_address_v4(text, error);
    if (error) return std::nullopt;
    return address;
}

// An array of strings, each of which `parse` takes.
template <class T, class Parse>
Wanted set_list(std::vector<T>& out, const toml::node& node, std::size_t most, const char* what,
                Parse parse) {
    const auto wanted = [&] { return std::unexpected(fmt::format("an array of at most {} {}", most, what)); };
    const auto* array = node.as_array();
    if (array == nullptr || array->size() > most) return wanted();
    out.clear();
    for (const toml::node& element : *array) {
        const auto each = element.value_exact<std::string>();
        const auto parsed = each ? parse(*each) : std::nullopt;
        if (!parsed) return wanted();
        out.push_back(*parsed);
    }
    return {};
}

Wanted set_pool(NetdConfig& config, const toml::node& node) {
    const auto value = node.value_exact<std::string>();
    const auto network = value ? parse_ipv4_network(*value) : std::nullopt;
    if (!network) return std::unexpected("an IPv4 network such as \"172.16.0.0/16\"");
    if (auto pool = AddressPool::create(*network); !pool) return std::unexpected(pool.error().what);
    config.pool = *network;
    return {};
}

const std::map<std::string_view, Setter>& setters() {
    using C = NetdConfig;
    constexpr std::size_t device_name = 15;
    static const std::map<std::string_view, Setter> all = {
        {"socket", path([](C & c) -> auto& { return c.socket; })},
        {"group", text(
                      [](C & c) -> auto& { return c.group; }, 32)},
        {"state_dir", path([](C & c) -> auto& { return c.state_dir; })},
        {"netns_dir", path([](C & c) -> auto& { return c.netns_dir; })},
        {"pool", set_pool},
        {"uplink", text(
                       [](C & c) -> auto& { return c.uplink; }, device_name)},
        {"dns",
         [](C& c, const toml::node& n) { return set_list(c.dns, n, 3, "IPv4 addresses", parse_address); }},
        {"mtu", number(
                    576, 65535, [](C & c) -> auto& { return c.mtu; })},
        {"ready", number(
                      0, 1024, [](C & c) -> auto& { return c.ready; })},
        {"max_connections", number(
                                16, 262'144, [](C & c) -> auto& { return c.max_connections; })},
        {"set_ip_forward",
         [](C& c, const toml::node& node) -> Wanted {
             const auto value = node.value_exact<bool>();
             if (!value) return std::unexpected("true or false");
             c.set_ip_forward = *value;
             return {};
         }},
        {"blocked",
         [](C& c, const toml::node& n) {
             return set_list(c.blocked, n, 256, "IPv4 networks", parse_ipv4_network);
         }},
    };
    return all;
}

}  // namespace

Result<NetdConfig> load_netd_config(const fs::path& file) {
    std::error_code status;
    if (!fs::is_regular_file(file, status))
        return fail(Errc::not_found, fmt::format("config file {} not found", file.string()));
    toml::table table;
    try {
        table = toml::parse_file(file.string());
    } catch (const toml::parse_error& error) {
        return fail(Errc::invalid,
                    fmt::format("{}:{}: {}", file.string(), error.source().begin.line, error.description()));
    }
    NetdConfig config;
    for (const auto& [key, node] : table) {
        const auto place = fmt::format("{}:{}", file.string(), node.source().begin.line);
        const auto setter = setters().find(key.str());
        if (setter == setters().end())
            return fail(Errc::invalid, fmt::format("{}: unknown key '{}'", place, key.str()));
        if (auto set = setter->second(config, node); !set)
            return fail(Errc::invalid, fmt::format("{}: {} must be {}", place, key.str(), set.error()));
    }
    return config;
}

Result<NetdConfig> find_netd_config(const std::optional<fs::path>& file) {
    if (file) return load_netd_config(*file);
    const fs::path usual = "/etc/noid/netd.toml";
    std::error_code status;
    if (!fs::exists(usual, status)) return NetdConfig{};
    return load_netd_config(usual);
}

}  // namespace noid::net
