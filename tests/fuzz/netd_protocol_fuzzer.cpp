// What is said on netd's socket: requests of anybody in its group, and replies that the server reads. What is
// taken for a request is read from its own line again as the same.
#include <concepts>
#include <type_traits>
#include <variant>

#include "input.hpp"
#include "net/protocol.hpp"

using namespace noid;

namespace {

template <class T>
constexpr bool is_of_the_oldest =
    std::is_same_v<T, net::SetupRequest> || std::is_same_v<T, net::TeardownRequest> ||
    std::is_same_v<T, net::StatusRequest>;

void check(const net::AcquireRequest& request) {
    fuzz::require(!request.vm.empty() && request.vm.size() <= net::max_vm_id_bytes, "an id that is none");
    fuzz::require(request.vm.find_first_of(" \n\t\"'\\*") == std::string::npos, "an id that is none");
    fuzz::require(request.policy.rules.size() <= net::max_rules, "too many rules");
    fuzz::require(request.holder.server.size() <= net::max_holder_bytes, "a holder that is too long");
    for (const auto& rule : request.policy.rules)
        fuzz::require(rule.ports.size() <= net::max_port_ranges, "too many ports");
}
void check(const net::RetainRequest& request) {
    fuzz::require(request.vms.size() <= net::max_slots, "too many VMs");
}
void check(const net::WatchRequest& request) {
    fuzz::require(request.asleep.size() <= net::max_slots && !request.holder.server.empty(),
                  "nobody watches");
}
void check(const net::TeardownRequest& request) {
    fuzz::require(request.tap_name.starts_with(net::device_prefix), "a device that is not ours");
}
template <class T>
void check(const T& /*request*/) {}

void read_request(std::string_view line) {
    const auto request = net::parse_request(line);
    if (!request) {
        const auto reply = net::error_reply(request.error(), net::ErrorShape::plain);
        fuzz::require(!reply.contains('\n'), "a reply of several lines");
        fuzz::require(!net::parse_done_reply(reply), "an error that reads as success");
        return;
    }
    const auto look = [](const auto& each) {
        check(each);
        if constexpr (!is_of_the_oldest<std::remove_cvref_t<decltype(each)>>) {
            const auto once = net::to_line(each);
            fuzz::require(!once.contains('\n'), "a request of several lines");
            const auto again = net::parse_request(once);
            fuzz::require(again && again->index() == net::Request{each}.index(),
                          "a line that reads otherwise");
            using T = std::remove_cvref_t<decltype(each)>;
            fuzz::require(net::to_line(std::get<T>(*again)) == once, "a request that changes");
        }
    };
    std::visit(look, *request);
}

void read_reply(std::uint8_t kind, std::string_view line) {
    switch (kind % 9) {
        case 0: {
            const auto slot = net::parse_slot_reply(line);
            if (slot) fuzz::require(net::parse_slot_reply(net::slot_reply(*slot)).has_value(), "a slot");
            return;
        }
        case 1:
            (void)net::parse_release_reply(line);
            return;
        case 2: {
            const auto policy = net::parse_policy_reply(line);
            if (policy)
                fuzz::require(net::parse_policy_reply(net::policy_reply(*policy)) == *policy, "a policy");
            return;
        }
        case 3: {
            const auto stats = net::parse_stats_reply(line);
            if (stats) fuzz::require(net::parse_stats_reply(net::stats_reply(*stats)).has_value(), "numbers");
            return;
        }
        case 4:
            (void)net::parse_retain_reply(line);
            return;
        case 5:
            (void)net::parse_done_reply(line);
            return;
        case 6:
            (void)net::parse_watch_reply(line);
            return;
        case 7:
            (void)net::parse_knock_line(line);
            return;
        default: {
            const auto findings = net::parse_doctor_reply(line);
            if (findings)
                fuzz::require(net::parse_doctor_reply(net::doctor_reply(*findings)).has_value(), "findings");
        }
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input input{data, size};
    const auto choice = input.number<std::uint8_t>();
    if ((choice & 1) == 0)
        read_request(input.all());
    else
        read_reply(choice / 2, input.all());
    return 0;
}
