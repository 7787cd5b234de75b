#include "net/protocol.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include "wire/json.hpp"

namespace noid::net {

namespace json = boost::json;

namespace {

constexpr std::array verdict_names{"ok", "warning", "failure"};

bool is_vm_id(std::string_view id) {
    if (id.empty() || id.size() > max_vm_id_bytes) return false;
    return std::all_of(id.begin(), id.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               std::string_view{"_.-:/@"}.find(c) != std::string_view::npos;
    });
}

Result<void> check_vm_id(const std::string& id) {
    if (is_vm_id(id)) return {};
    return fail(Errc::invalid,
                fmt::format("a VM id has 1 to {} letters, digits and _.-:/@", max_vm_id_bytes));
}

// `field` names what is wrong in an otherwise good request.
std::unexpected<Error> invalid_request(const Error& error) {
    return fail(Error{error.code, "invalid request: " + error.what, {}});
}

Result<Request> parse_setup(const json::value& value) {
    const json::value* index = value.get_object().if_contains("index");
    if (index == nullptr || index->is_null()) return fail(Errc::invalid, "setup requires 'index' field");
    SetupRequest request;
    wire::FieldReader fields{value};
    fields.required("index", request.index);
    if (auto read = fields.done(); !read) return invalid_request(read.error());
    return request;
}

Result<Request> parse_teardown(const json::value& value) {
    const json::value* name = value.get_object().if_contains("tap_name");
    if (name == nullptr || name->is_null()) return fail(Errc::invalid, "teardown requires 'tap_name' field");
    TeardownRequest request;
    wire::FieldReader fields{value};
    fields.required("tap_name", request.tap_name);
    if (auto read = fields.done(); !read) return invalid_request(read.error());
    if (!request.tap_name.starts_with(device_prefix)) {
        return fail(Errc::invalid, fmt::format("invalid tap_name '{:.64}': must start with '{}'",
                                               request.tap_name, device_prefix));
    }
    return request;
}

Result<Policy> parse_policy(const json::value& value) {
    auto policy = Policy::from_json(value);
    if (!policy) return fail(std::move(policy.error()).at("policy"));
    return policy;
}

void read_holder(wire::FieldReader& fields, Holder& holder) {
    fields.optional("server", holder.server);
    fields.optional("run", holder.run);
    if (holder.server.size() > max_holder_bytes) fields.must_be("server", "shorter");
    if (holder.run.size() > max_holder_bytes) fields.must_be("run", "shorter");
}

void add_holder(json::object& object, const Holder& holder) {
    if (!holder.server.empty()) object["server"] = holder.server;
    if (!holder.run.empty()) object["run"] = holder.run;
}

Result<Request> parse_acquire(const json::value& value) {
    AcquireRequest request;
    std::optional<std::string> mac;
    wire::FieldReader fields{value};
    fields.required("vm", request.vm);
    read_holder(fields, request.holder);
    fields.optional("guest_mac", mac);
    if (auto read = fields.done(); !read) return invalid_request(read.error());
    if (auto good = check_vm_id(request.vm); !good) return invalid_request(good.error());
    if (mac) {
        request.guest_mac = parse_mac(*mac);
        if (!request.guest_mac)
            return fail(Errc::invalid, "invalid request: field 'guest_mac' must be like AA:FC:00:00:00:02");
    }
    if (const json::value* member = fields.find("policy")) {
        auto policy = parse_policy(*member);
        if (!policy) return invalid_request(policy.error());
        request.policy = std::move(*policy);
    }
    return request;
}

Result<Request> parse_policy_request(const json::value& value) {
    PolicyRequest request;
    wire::FieldReader fields{value};
    fields.required("vm", request.vm);
    if (auto read = fields.done(); !read) return invalid_request(read.error());
    if (const json::value* member = fields.find("policy")) {
        auto policy = parse_policy(*member);
        if (!policy) return invalid_request(policy.error());
        request.policy = std::move(*policy);
    }
    return request;
}

template <class T>
Result<Request> parse_vm(const json::value& value) {
    T request;
    wire::FieldReader fields{value};
    if constexpr (std::is_same_v<T, StatsRequest>) {
        fields.optional("vm", request.vm);
    } else {
        fields.required("vm", request.vm);
    }
    if (auto read = fields.done(); !read) return invalid_request(read.error());
    return request;
}

Result<Request> parse_retain(const json::value& value) {
    RetainRequest request;
    wire::FieldReader fields{value};
    fields.required("vms", request.vms);
    read_holder(fields, request.holder);
    if (auto read = fields.done(); !read) return invalid_request(read.error());
    if (request.vms.size() > max_slots) return fail(Errc::too_large, "invalid request: too many VMs");
    return request;
}

Result<Request> parse_watch(const json::value& value) {
    WatchRequest request;
    wire::FieldReader fields{value};
    fields.optional("asleep", request.asleep);
    read_holder(fields, request.holder);
    if (request.holder.server.empty()) fields.must_be("server", "there");
    if (auto read = fields.done(); !read) return invalid_request(read.error());
    if (request.asleep.size() > max_slots) return fail(Errc::too_large, "invalid request: too many VMs");
    return request;
}

std::string line_of(json::object object) {
    return json::serialize(object);
}

json::object ok() {
    return json::object{{"ok", true}};
}

json::object traffic_to_json(const Traffic& traffic) {
    return {{"bytes", traffic.bytes}, {"packets", traffic.packets}};
}

void read_traffic(wire::FieldReader& fields, std::string_view key, Traffic& out) {
    const json::value* member = fields.find(key);
    if (member == nullptr) return fields.must_be(key, "there");
    wire::FieldReader inside{*member};
    inside.required("bytes", out.bytes);
    inside.required("packets", out.packets);
    if (auto read = inside.done(); !read) fields.must_be(key, "bytes and packets");
}

std::optional<Ipv4> parse_address(const std::string& text) {
    boost::system::error_code error;
    const auto address = boost::asio::ip::make_address_v4(text, error);
    if (error) return std::nullopt;
    return address;
}

void read_address(wire::FieldReader& fields, std::string_view key, Ipv4& out) {
    std::string text;
    fields.required(key, text);
    const auto address = parse_address(text);
    if (!address) return fields.must_be(key, "an IPv4 address");
    out = *address;
}

Errc code_of(std::string_view name) {
    for (int code = 0; code <= static_cast<int>(Errc::internal); ++code)
        if (noid::name_of(static_cast<Errc>(code)) == name) return static_cast<Errc>(code);
    return Errc::internal;
}

std::unexpected<Error> not_understood(const Error& error) {
    return fail(Errc::corrupt, "noid-netd answered what cannot be understood: " + error.what);
}

// The reply as an object, or the error that it carries.
Result<json::value> parse_reply(std::string_view line) {
    auto value = wire::parse_json(line);
    if (!value) return not_understood(value.error());
    bool good = false;
    std::string message;
    std::string code{noid::name_of(Errc::invalid)};
    wire::FieldReader fields{*value};
    fields.required("ok", good);
    fields.optional("error", message);
    fields.optional("code", code);
    if (auto read = fields.done(); !read) return not_understood(read.error());
    if (!good) return fail(code_of(code), message);
    return value;
}

}  // namespace

std::string_view name_of(Verdict verdict) noexcept {
    return verdict_names[static_cast<std::size_t>(verdict)];
}

Result<Request> parse_request(std::string_view line) {
    const auto value = wire::parse_json(line);
    if (!value) return invalid_request(value.error());
    std::string op;
    wire::FieldReader fields{*value};
    fields.required("op", op);
    if (auto read = fields.done(); !read) return invalid_request(read.error());
    if (op == "setup") return parse_setup(*value);
    if (op == "teardown") return parse_teardown(*value);
    if (op == "status") return StatusRequest{};
    if (op == "acquire") return parse_acquire(*value);
    if (op == "release") return parse_vm<ReleaseRequest>(*value);
    if (op == "policy") return parse_policy_request(*value);
    if (op == "stats") return parse_vm<StatsRequest>(*value);
    if (op == "retain") return parse_retain(*value);
    if (op == "sleep") return parse_vm<SleepRequest>(*value);
    if (op == "awake") return parse_vm<AwakeRequest>(*value);
    if (op == "watch") return parse_watch(*value);
    if (op == "doctor") return DoctorRequest{};
    return fail(Errc::invalid, fmt::format("unknown op: {:.64}", op));
}

std::string to_line(const AcquireRequest& request) {
    json::object object{{"op", "acquire"}, {"vm", request.vm}, {"policy", request.policy.to_json()}};
    if (request.guest_mac) object["guest_mac"] = to_string(*request.guest_mac);
    add_holder(object, request.holder);
    return line_of(std::move(object));
}

std::string to_line(const ReleaseRequest& request) {
    return line_of({{"op", "release"}, {"vm", request.vm}});
}

std::string to_line(const PolicyRequest& request) {
    json::object object{{"op", "policy"}, {"vm", request.vm}};
    if (request.policy) object["policy"] = request.policy->to_json();
    return line_of(std::move(object));
}

std::string to_line(const StatsRequest& request) {
    json::object object{{"op", "stats"}};
    if (request.vm) object["vm"] = *request.vm;
    return line_of(std::move(object));
}

std::string to_line(const RetainRequest& request) {
    json::object object{{"op", "retain"}, {"vms", json::array(request.vms.begin(), request.vms.end())}};
    add_holder(object, request.holder);
    return line_of(std::move(object));
}

std::string to_line(const SleepRequest& request) {
    return line_of({{"op", "sleep"}, {"vm", request.vm}});
}

std::string to_line(const AwakeRequest& request) {
    return line_of({{"op", "awake"}, {"vm", request.vm}});
}

std::string to_line(const WatchRequest& request) {
    json::object object{{"op", "watch"},
                        {"asleep", json::array(request.asleep.begin(), request.asleep.end())}};
    add_holder(object, request.holder);
    return line_of(std::move(object));
}

std::string to_line(const DoctorRequest& /*request*/) {
    return line_of({{"op", "doctor"}});
}

std::string setup_reply(const SetupReply& reply) {
    return line_of({{"ok", true},
                    {"tap_name", reply.tap_name},
                    {"host_ip", reply.host_ip.to_string()},
                    {"guest_ip", reply.guest_ip.to_string()},
                    {"guest_mac", reply.guest_mac}});
}

std::string done_reply() {
    return line_of(ok());
}

std::string status_reply(const std::vector<std::string>& active) {
    return line_of({{"ok", true}, {"active", json::array(active.begin(), active.end())}});
}

std::string slot_reply(const SlotDescription& slot) {
    json::object guest{{"address", slot.address},
                       {"gateway", slot.gateway},
                       {"nameservers", json::array(slot.nameservers.begin(), slot.nameservers.end())},
                       {"mtu", slot.mtu}};
    return line_of({{"ok", true},
                    {"index", slot.index},
                    {"netns", slot.netns},
                    {"tap", slot.tap},
                    {"host_ip", slot.host_ip.to_string()},
                    {"guest_ip", slot.guest_ip.to_string()},
                    {"guest_mac", slot.guest_mac},
                    {"guest", std::move(guest)}});
}

std::string release_reply(bool released) {
    return line_of({{"ok", true}, {"released", released}});
}

std::string policy_reply(const Policy& policy) {
    return line_of({{"ok", true}, {"policy", policy.to_json()}});
}

std::string stats_reply(const std::vector<VmStats>& stats) {
    json::array vms;
    for (const auto& each : stats) {
        vms.push_back(json::object{{"vm", each.vm},
                                   {"server", each.server},
                                   {"index", each.index},
                                   {"guest_ip", each.guest_ip.to_string()},
                                   {"mode", name_of(each.mode)},
                                   {"asleep", each.asleep},
                                   {"sent", traffic_to_json(each.sent)},
                                   {"received", traffic_to_json(each.received)},
                                   {"forged", traffic_to_json(each.forged)},
                                   {"isolated", traffic_to_json(each.isolated)},
                                   {"denied", traffic_to_json(each.denied)},
                                   {"connections", each.connections}});
    }
    return line_of({{"ok", true}, {"vms", std::move(vms)}});
}

std::string retain_reply(const std::vector<std::string>& released) {
    return line_of({{"ok", true}, {"released", json::array(released.begin(), released.end())}});
}

std::string watch_reply(const std::vector<std::string>& lost) {
    return line_of({{"ok", true}, {"lost", json::array(lost.begin(), lost.end())}});
}

std::string knock_line(const std::string& vm) {
    return line_of({{"knock", vm}});
}

std::string doctor_reply(const std::vector<Finding>& findings) {
    json::array array;
    for (const auto& each : findings) {
        array.push_back(json::object{{"subject", each.subject},
                                     {"verdict", name_of(each.verdict)},
                                     {"found", each.found},
                                     {"advice", each.advice}});
    }
    return line_of({{"ok", true}, {"findings", std::move(array)}});
}

std::string error_reply(const Error& error, ErrorShape shape) {
    json::object object{{"ok", false}, {"error", error.what}};
    if (shape == ErrorShape::with_code) object["code"] = noid::name_of(error.code);
    return line_of(std::move(object));
}

ErrorShape error_shape_of(const Request& request) noexcept {
    const bool is_old = std::holds_alternative<SetupRequest>(request) ||
                        std::holds_alternative<TeardownRequest>(request) ||
                        std::holds_alternative<StatusRequest>(request);
    return is_old ? ErrorShape::plain : ErrorShape::with_code;
}

Result<SlotDescription> parse_slot_reply(std::string_view line) {
    const auto value = parse_reply(line);
    if (!value) return fail(value.error());
    SlotDescription slot;
    wire::FieldReader fields{*value};
    fields.required("index", slot.index);
    fields.required("netns", slot.netns);
    fields.required("tap", slot.tap);
    read_address(fields, "host_ip", slot.host_ip);
    read_address(fields, "guest_ip", slot.guest_ip);
    fields.required("guest_mac", slot.guest_mac);
    const json::value* guest = fields.find("guest");
    if (guest == nullptr) fields.must_be("guest", "there");
    if (auto read = fields.done(); !read) return not_understood(read.error());
    wire::FieldReader inside{*guest};
    inside.required("address", slot.address);
    inside.required("gateway", slot.gateway);
    inside.required("nameservers", slot.nameservers);
    inside.required("mtu", slot.mtu);
    if (auto read = inside.done(); !read) return not_understood(read.error());
    return slot;
}

Result<bool> parse_release_reply(std::string_view line) {
    const auto value = parse_reply(line);
    if (!value) return fail(value.error());
    bool released = false;
    wire::FieldReader fields{*value};
    fields.required("released", released);
    if (auto read = fields.done(); !read) return not_understood(read.error());
    return released;
}

Result<Policy> parse_policy_reply(std::string_view line) {
    const auto value = parse_reply(line);
    if (!value) return fail(value.error());
    const json::value* member = value->get_object().if_contains("policy");
    if (member == nullptr) return not_understood(Error{Errc::corrupt, "no policy", {}});
    auto policy = Policy::from_json(*member);
    if (!policy) return not_understood(policy.error());
    return policy;
}

Result<std::vector<VmStats>> parse_stats_reply(std::string_view line) {
    const auto value = parse_reply(line);
    if (!value) return fail(value.error());
    const json::value* vms = value->get_object().if_contains("vms");
    if (vms == nullptr || !vms->is_array()) return not_understood(Error{Errc::corrupt, "no VMs", {}});
    std::vector<VmStats> stats;
    for (const json::value& each : vms->get_array()) {
        VmStats vm;
        std::string mode;
        wire::FieldReader fields{each};
        fields.required("vm", vm.vm);
        fields.optional("server", vm.server);
        fields.required("index", vm.index);
        read_address(fields, "guest_ip", vm.guest_ip);
        fields.required("mode", mode);
        fields.optional("asleep", vm.asleep);
        for (const Mode candidate : {Mode::none, Mode::egress, Mode::open})
            if (name_of(candidate) == mode) vm.mode = candidate;
        read_traffic(fields, "sent", vm.sent);
        read_traffic(fields, "received", vm.received);
        read_traffic(fields, "forged", vm.forged);
        read_traffic(fields, "isolated", vm.isolated);
        read_traffic(fields, "denied", vm.denied);
        fields.required("connections", vm.connections);
        if (auto read = fields.done(); !read) return not_understood(read.error());
        stats.push_back(std::move(vm));
    }
    return stats;
}

Result<std::vector<std::string>> parse_retain_reply(std::string_view line) {
    const auto value = parse_reply(line);
    if (!value) return fail(value.error());
    std::vector<std::string> released;
    wire::FieldReader fields{*value};
    fields.required("released", released);
    if (auto read = fields.done(); !read) return not_understood(read.error());
    return released;
}

Result<void> parse_done_reply(std::string_view line) {
    const auto value = parse_reply(line);
    if (!value) return fail(value.error());
    return {};
}

Result<std::vector<std::string>> parse_watch_reply(std::string_view line) {
    const auto value = parse_reply(line);
    if (!value) return fail(value.error());
    std::vector<std::string> lost;
    wire::FieldReader fields{*value};
    fields.required("lost", lost);
    if (auto read = fields.done(); !read) return not_understood(read.error());
    return lost;
}

Result<std::string> parse_knock_line(std::string_view line) {
    const auto value = wire::parse_json(line);
    if (!value) return not_understood(value.error());
    std::string vm;
    wire::FieldReader fields{*value};
    fields.required("knock", vm);
    if (auto read = fields.done(); !read) return not_understood(read.error());
    return vm;
}

Result<std::vector<Finding>> parse_doctor_reply(std::string_view line) {
    const auto value = parse_reply(line);
    if (!value) return fail(value.error());
    const json::value* member = value->get_object().if_contains("findings");
    if (member == nullptr || !member->is_array())
        return not_understood(Error{Errc::corrupt, "no findings", {}});
    std::vector<Finding> findings;
    for (const json::value& each : member->get_array()) {
        Finding finding;
        std::string verdict;
        wire::FieldReader fields{each};
        fields.required("subject", finding.subject);
        fields.required("verdict", verdict);
        fields.required("found", finding.found);
        fields.required("advice", finding.advice);
        if (auto read = fields.done(); !read) return not_understood(read.error());
        finding.verdict = verdict == "ok"        ? Verdict::ok
                          : verdict == "warning" ? Verdict::warning
                                                 : Verdict::failure;
        findings.push_back(std::move(finding));
    }
    return findings;
}

}  // namespace noid::net
