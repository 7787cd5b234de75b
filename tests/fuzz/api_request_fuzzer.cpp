// Bodies of requests and messages over WebSockets, as the API reads them, and answers, as the client does.
// What is taken for one is written and read again as the same.
#include <boost/json/monotonic_resource.hpp>
#include <boost/json/serialize.hpp>
#include <concepts>

#include "input.hpp"
#include "wire/base64.hpp"
#include "wire/checkpoint.hpp"
#include "wire/exec.hpp"
#include "wire/names.hpp"
#include "wire/network.hpp"
#include "wire/resources.hpp"
#include "wire/server_info.hpp"
#include "wire/signals.hpp"
#include "wire/stream.hpp"
#include "wire/user_limits.hpp"
#include "wire/utf8.hpp"
#include "wire/vm.hpp"

using namespace noid;
namespace json = boost::json;

namespace {

template <class T>
concept Writable = requires(const T& value) {
    { wire::to_json(value) } -> std::convertible_to<json::object>;
};

// As an endpoint reads its body.
template <class T>
void read(std::string_view text) {
    json::monotonic_resource memory;
    const auto value = wire::parse_json(text, &memory);
    if (!value) {
        fuzz::require(value.error().code == Errc::invalid, "another error than of the text");
        return;
    }
    const auto request = T::from_json(*value);
    if (!request) {
        fuzz::require(!request.error().what.empty(), "an error without words");
        return;
    }
    if constexpr (requires { request->check(); }) (void)request->check();
    if constexpr (Writable<T>) {
        const json::value once = wire::to_json(*request);
        const auto again = T::from_json(once);
        fuzz::require(again.has_value(), "what was written is not read");
        fuzz::require(json::serialize(wire::to_json(*again)) == json::serialize(once), "it changes");
    }
}

void read_exec_response(std::string_view text) {
    const auto value = wire::parse_json(text);
    if (value) (void)wire::ExecResponse::from_json(*value);
}

void read_client_message(std::string_view text) {
    const auto message = wire::parse_client_message(text);
    if (!message) return;
    const auto once = wire::to_text(*message);
    const auto again = wire::parse_client_message(once);
    fuzz::require(again && wire::to_text(*again) == once, "a message that changes");
}

void read_server_message(std::string_view text) {
    const auto message = wire::parse_server_message(text);
    if (!message) return;
    const auto once = wire::to_text(*message);
    const auto again = wire::parse_server_message(once);
    fuzz::require(again && wire::to_text(*again) == once, "a message that changes");
}

void read_words(std::string_view text) {
    if (const auto bytes = wire::from_base64(text))
        fuzz::require(wire::to_base64(*bytes) == text, "another base64 of the same");
    fuzz::require(wire::is_utf8(wire::to_utf8(text)), "text that is none");
    fuzz::require(!wire::is_utf8(text) || wire::to_utf8(text) == text, "text that changes");
    if (wire::check_vm_name(text)) {
        fuzz::require(text.size() <= wire::max_vm_name && text.front() != '.', "a name that is none");
        fuzz::require(text.find_first_of("/\\ \n") == std::string_view::npos, "a name that is none");
    }
    (void)wire::parse_resize(text);
    (void)wire::parse_signal(text);
    (void)wire::parse_network(text);
    (void)wire::PortMapping::parse(text);
}

using Read = void (*)(std::string_view);
constexpr Read readers[] = {
    read<wire::CreateVm>,
    read<wire::ExecRequest>,
    read<wire::ChangeVm>,
    read<wire::CreateCheckpoint>,
    read<wire::ChangeCheckpoint>,
    read<wire::PruneCheckpoints>,
    read<wire::RestoreCheckpoint>,
    read<wire::ForkVm>,
    read<wire::VmPolicy>,
    read<wire::NetworkPolicy>,
    read<wire::ExposePort>,
    read<wire::CreateUser>,
    read<wire::OwnLimits>,
    read_client_message,
    read_words,
    // what the client reads
    read<wire::VmInfo>,
    read<wire::CheckpointInfo>,
    read<wire::SessionInfo>,
    read<wire::ExecStarted>,
    read<wire::ExecResult>,
    read<wire::ExposedPort>,
    read<wire::UserLimits>,
    read<wire::Capabilities>,
    read<wire::UserWithToken>,
    read<wire::ErrorBody>,
    read_exec_response,
    read_server_message,
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input input{data, size};
    const auto choice = input.number<std::uint8_t>();
    readers[choice % std::size(readers)](input.all());
    return 0;
}
