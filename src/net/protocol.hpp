#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/error.hpp"
#include "net/policy.hpp"
#include "net/slot_address.hpp"
#include "net/traffic.hpp"

// What is said on netd's socket: one JSON object in one line each way, then netd closes. Shared by
// daemon and client; no I/O.
namespace noid::net {

inline constexpr std::size_t max_request_bytes = 256 * 1024;
inline constexpr std::size_t max_reply_bytes = 16 * 1024 * 1024;
inline constexpr std::size_t max_vm_id_bytes = 160;
inline constexpr std::size_t max_holder_bytes = 64;  // of each part

// The oldest three operations; their replies are kept byte for byte.
struct SetupRequest {  // a bare TAP in the host's namespace
    std::uint32_t index = 0;
};
struct TeardownRequest {
    std::string tap_name;
};
struct StatusRequest {};

// For whom a slot is asked, beyond the user: one server, and one process of it. Both empty: nobody said.
struct Holder {
    std::string server;
    std::string run;
    bool operator==(const Holder&) const = default;
};

// A slot for the VM; the same again if the VM has one (its policy and holder are then replaced).
struct AcquireRequest {
    std::string vm;
    Holder holder;
    std::optional<Mac> guest_mac;  // of a guest that was not made for slots
    Policy policy;
};
// Gives the slot back. A VM without one is no error.
struct ReleaseRequest {
    std::string vm;
};
// Replaces the policy, or only tells it.
struct PolicyRequest {
    std::string vm;
    std::optional<Policy> policy;
};
// Of one VM, or of all that the asking user has.
struct StatsRequest {
    std::optional<std::string> vm;
};
// Gives back what earlier processes of this server hold, but for these VMs. Slots of the asking user
// only; what the asking process itself has acquired by now stays.
struct RetainRequest {
    Holder holder;
    std::vector<std::string> vms;
};
// The VM is suspended and keeps its slot: packets to it are held for a while, and whoever watches is told.
struct SleepRequest {
    std::string vm;
};
// It runs again: gives it what was held.
struct AwakeRequest {
    std::string vm;
};
// Tells one server, for as long as the connection lasts, which of its sleeping VMs somebody sends to: each in
// a line of its own (knock_line()), at most every 10 s. A newer watch of the same server ends the older one.
struct WatchRequest {
    Holder holder;                    // `server` is needed
    std::vector<std::string> asleep;  // these sleep; as if sleep had been asked for each
};
struct DoctorRequest {};

using Request =
    std::variant<SetupRequest, TeardownRequest, StatusRequest, AcquireRequest, ReleaseRequest, PolicyRequest,
                 StatsRequest, RetainRequest, SleepRequest, AwakeRequest, WatchRequest, DoctorRequest>;

[[nodiscard]] Result<Request> parse_request(std::string_view line);
// Without the newline. The oldest three are not written: nobody here asks them.
[[nodiscard]] std::string to_line(const AcquireRequest& request);
[[nodiscard]] std::string to_line(const ReleaseRequest& request);
[[nodiscard]] std::string to_line(const PolicyRequest& request);
[[nodiscard]] std::string to_line(const StatsRequest& request);
[[nodiscard]] std::string to_line(const RetainRequest& request);
[[nodiscard]] std::string to_line(const SleepRequest& request);
[[nodiscard]] std::string to_line(const AwakeRequest& request);
[[nodiscard]] std::string to_line(const WatchRequest& request);
[[nodiscard]] std::string to_line(const DoctorRequest& request);

// A slot as its VM's owner needs it.
struct SlotDescription {
    std::uint32_t index = 0;
    std::string netns;  // path
    std::string tap;    // name in there
    Ipv4 host_ip;       // outer addresses
    Ipv4 guest_ip;
    std::string guest_mac;
    std::string address;  // inner, with prefix length
    std::string gateway;
    std::vector<std::string> nameservers;
    std::uint32_t mtu = 1500;
};

// Since the VM got its slot.
struct VmStats {
    std::string vm;
    std::string server;  // of its holder
    std::uint32_t index = 0;
    Ipv4 guest_ip;
    Mode mode = Mode::open;
    bool asleep = false;
    Traffic sent;  // by the guest
    Traffic received;
    Traffic forged;                 // dropped: not the guest's own source address, or no IPv4
    Traffic isolated;               // dropped: towards what no guest may reach
    Traffic denied;                 // refused by policy
    std::uint32_t connections = 0;  // open now
};

enum class Verdict : std::uint8_t { ok, warning, failure };
// One thing that `doctor` looked at, and what a person does about it.
struct Finding {
    std::string subject;
    Verdict verdict = Verdict::ok;
    std::string found;
    std::string advice;  // empty when ok
};
[[nodiscard]] std::string_view name_of(Verdict verdict) noexcept;

// Replies, without the newline.
struct SetupReply {
    std::string tap_name;
    Ipv4 host_ip;
    Ipv4 guest_ip;
    std::string guest_mac;
};
[[nodiscard]] std::string setup_reply(const SetupReply& reply);
[[nodiscard]] std::string done_reply();
[[nodiscard]] std::string status_reply(const std::vector<std::string>& active);
[[nodiscard]] std::string slot_reply(const SlotDescription& slot);
[[nodiscard]] std::string release_reply(bool released);
[[nodiscard]] std::string policy_reply(const Policy& policy);
[[nodiscard]] std::string stats_reply(const std::vector<VmStats>& stats);
[[nodiscard]] std::string retain_reply(const std::vector<std::string>& released);
// `lost`: of the VMs that were said to sleep, those that have no slot (any more).
[[nodiscard]] std::string watch_reply(const std::vector<std::string>& lost);
[[nodiscard]] std::string knock_line(const std::string& vm);
[[nodiscard]] std::string doctor_reply(const std::vector<Finding>& findings);
// Replies to the oldest operations, and to what is no request, have no code: that says `invalid`.
enum class ErrorShape : std::uint8_t { plain, with_code };
[[nodiscard]] std::string error_reply(const Error& error, ErrorShape shape);
[[nodiscard]] ErrorShape error_shape_of(const Request& request) noexcept;

// The client's side. An error reply becomes that error; everything else that does not fit is `corrupt`.
[[nodiscard]] Result<SlotDescription> parse_slot_reply(std::string_view line);
[[nodiscard]] Result<bool> parse_release_reply(std::string_view line);
[[nodiscard]] Result<Policy> parse_policy_reply(std::string_view line);
[[nodiscard]] Result<std::vector<VmStats>> parse_stats_reply(std::string_view line);
[[nodiscard]] Result<std::vector<std::string>> parse_retain_reply(std::string_view line);
[[nodiscard]] Result<void> parse_done_reply(std::string_view line);
[[nodiscard]] Result<std::vector<std::string>> parse_watch_reply(std::string_view line);
[[nodiscard]] Result<std::string> parse_knock_line(std::string_view line);
[[nodiscard]] Result<std::vector<Finding>> parse_doctor_reply(std::string_view line);

}  // namespace noid::net
