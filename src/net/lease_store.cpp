#include "net/lease_store.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <cerrno>

#include "base/file.hpp"
#include "wire/json.hpp"

namespace noid::net {

namespace fs = std::filesystem;
namespace json = boost::json;

namespace {

constexpr std::size_t longest_lease = 512 * 1024;
constexpr std::string_view suffix = ".json";

std::string file_name(std::uint32_t index) {
    return fmt::format("{}{}{}", device_prefix, index, suffix);
}

std::string to_text(const Lease& lease) {
    json::object object{{"vm", lease.vm},
                        {"user", lease.user},
                        {"server", lease.holder.server},
                        {"run", lease.holder.run},
                        {"guest_mac", to_string(lease.guest_mac)},
                        {"policy", lease.policy.to_json()}};
    if (lease.asleep) object["asleep"] = true;
    return json::serialize(object);
}

Result<Lease> parse_lease(std::string_view text) {
    const auto value = wire::parse_json(text);
    if (!value) return fail(value.error());
    Lease lease;
    std::string mac;
    wire::FieldReader fields{*value};
    fields.required("vm", lease.vm);
    fields.required("user", lease.user);
    fields.optional("server", lease.holder.server);
    fields.optional("run", lease.holder.run);
    fields.required("guest_mac", mac);
    fields.optional("asleep", lease.asleep);
    const json::value* policy = fields.find("policy");
    const auto parsed_mac = parse_mac(mac);
    if (policy == nullptr || !parsed_mac) fields.wrong("no policy or no MAC");
    if (auto read = fields.done(); !read) return fail(read.error());
    auto parsed_policy = Policy::from_json(*policy);
    if (!parsed_policy) return fail(parsed_policy.error());
    lease.guest_mac = *parsed_mac;
    lease.policy = std::move(*parsed_policy);
    return lease;
}

}  // namespace

Result<LeaseStore> LeaseStore::open(const fs::path& directory) {
    std::error_code error;
    fs::create_directories(directory, error);
    if (!error) fs::permissions(directory, fs::perms::owner_all, error);
    if (error) return fail_errno(error.value(), "cannot make " + directory.string());
    auto opened = open_directory(directory);
    if (!opened) return fail(opened.error());
    return LeaseStore{directory, std::move(*opened)};
}

Result<void> LeaseStore::put(std::uint32_t index, const Lease& lease) {
    return replace_file_at(directory_, file_name(index), to_text(lease));
}

Result<void> LeaseStore::erase(std::uint32_t index) {
    if (::unlinkat(directory_.get(), file_name(index).c_str(), 0) != 0 && errno != ENOENT)
        return fail_errno(errno, "cannot remove a lease");
    return {};
}

Result<std::map<std::uint32_t, Lease>> LeaseStore::load(std::vector<std::string>& unreadable) const {
    std::map<std::uint32_t, Lease> leases;
    std::error_code error;
    for (fs::directory_iterator at{path_, error}, end; !error && at != end; at.increment(error)) {
        const std::string name = at->path().filename().string();
        if (!name.ends_with(suffix)) continue;
        const auto index = parse_slot_name(std::string_view{name}.substr(0, name.size() - suffix.size()));
        const auto text = read_file_at(directory_, name, longest_lease);
        auto lease = text ? parse_lease(*text) : Result<Lease>{fail(text.error())};
        if (index && lease) {
            leases.emplace(*index, std::move(*lease));
        } else {
            unreadable.push_back(name);
        }
    }
    if (error) return fail_errno(error.value(), "cannot list " + path_.string());
    return leases;
}

}  // namespace noid::net
