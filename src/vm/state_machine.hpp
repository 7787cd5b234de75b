#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "vm/types.hpp"

// The life cycle of a VM as a pure function: what may happen in which state and where it leads.
namespace noid::vm {

enum class Event : std::uint8_t {
    start_begun,     // a VMM is being started for a VM that has none
    start_failed,    // and was ended again by us
    agent_answered,  // the guest is up
    wake_failed,     // a suspended VM did not wake, and its guest has not run
    paused,
    resumed,
    suspended,
    stop_begun,
    vmm_crashed,        // the VMM ended without being asked
    guest_powered_off,  // the VMM ended because the guest told it to, or because we did
    destroy_begun,
};

// Where `event` leads from `state`; nullopt when it cannot happen there.
[[nodiscard]] std::optional<State> next(State state, Event event) noexcept;

// Whether a VMM process belongs to a VM in this state.
[[nodiscard]] bool has_process(State state) noexcept;

// Why a request was refused, for the caller: "VM 'web' is stopped; it cannot be paused".
[[nodiscard]] std::string refusal(std::string_view name, State state, std::string_view wanted);

}  // namespace noid::vm
