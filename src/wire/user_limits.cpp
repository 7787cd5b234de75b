#include "wire/user_limits.hpp"

#include <utility>

namespace noid::wire {

Result<OwnLimits> OwnLimits::from_json(const json::value& value) {
    OwnLimits limits;
    FieldReader fields{value};
    fields.optional("max_vms", limits.max_vms);
    fields.optional("max_memory_mib", limits.max_memory_mib);
    fields.optional("max_vcpus", limits.max_vcpus);
    fields.optional("max_disk_mib", limits.max_disk_mib);
    if (auto read = fields.done(); !read) return fail(std::move(read).error());
    return limits;
}

json::object to_json(const OwnLimits& limits) {
    const auto number = [](std::optional<std::uint64_t> limit) {
        return limit ? json::value(*limit) : json::value(nullptr);
    };
    json::object out;
    out.emplace("max_vms", number(limits.max_vms));
    out.emplace("max_memory_mib", number(limits.max_memory_mib));
    out.emplace("max_vcpus", number(limits.max_vcpus));
    out.emplace("max_disk_mib", number(limits.max_disk_mib));
    return out;
}

Result<Amounts> Amounts::from_json(const json::value& value) {
    Amounts amounts;
    FieldReader fields{value};
    fields.required("vms", amounts.vms);
    fields.required("memory_mib", amounts.memory_mib);
    fields.required("vcpus", amounts.vcpus);
    fields.required("disk_mib", amounts.disk_mib);
    if (auto read = fields.done(); !read) return fail(std::move(read).error());
    return amounts;
}

json::object to_json(const Amounts& amounts) {
    json::object out;
    out.emplace("vms", amounts.vms);
    out.emplace("memory_mib", amounts.memory_mib);
    out.emplace("vcpus", amounts.vcpus);
    out.emplace("disk_mib", amounts.disk_mib);
    return out;
}

Result<UserLimits> UserLimits::from_json(const json::value& value) {
    FieldReader fields{value};
    const json::value none;
    const auto member = [&](std::string_view key) -> const json::value& {
        const json::value* found = fields.find(key);
        return found == nullptr ? none : *found;
    };
    auto own = OwnLimits::from_json(member("own"));
    if (!own) return fail(std::move(own).error().at("own"));
    auto allowed = Amounts::from_json(member("allowed"));
    if (!allowed) return fail(std::move(allowed).error().at("allowed"));
    auto used = Amounts::from_json(member("used"));
    if (!used) return fail(std::move(used).error().at("used"));
    return UserLimits{*own, *allowed, *used};
}

json::object to_json(const UserLimits& limits) {
    json::object out;
    out.emplace("own", to_json(limits.own));
    out.emplace("allowed", to_json(limits.allowed));
    out.emplace("used", to_json(limits.used));
    return out;
}

}  // namespace noid::wire
