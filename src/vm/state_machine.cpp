#include "vm/state_machine.hpp"

#include <fmt/format.h>

namespace noid::vm {

std::optional<State> next(State state, Event event) noexcept {
    if (event == Event::destroy_begun) return State::destroying;
    switch (state) {
        case State::creating:
            if (event == Event::agent_answered) return State::running;
            return std::nullopt;
        case State::starting:
            if (event == Event::agent_answered) return State::running;
            if (event == Event::start_failed) return State::stopped;
            if (event == Event::wake_failed) return State::suspended;
            if (event == Event::vmm_crashed || event == Event::guest_powered_off) return State::dead;
            return std::nullopt;
        case State::running:
            if (event == Event::paused) return State::paused;
            if (event == Event::suspended) return State::suspended;
            if (event == Event::stop_begun) return State::stopping;
            if (event == Event::vmm_crashed) return State::dead;
            if (event == Event::guest_powered_off) return State::stopped;
            return std::nullopt;
        case State::paused:
            if (event == Event::resumed) return State::running;
            if (event == Event::suspended) return State::suspended;
            if (event == Event::stop_begun) return State::stopping;
            if (event == Event::vmm_crashed || event == Event::guest_powered_off) return State::dead;
            return std::nullopt;
        case State::stopping:
            // Asked to end, so every end is the one that was asked for.
            if (event == Event::vmm_crashed || event == Event::guest_powered_off) return State::stopped;
            return std::nullopt;
        case State::suspended:
            if (event == Event::stop_begun) return State::stopping;
            [[fallthrough]];
        case State::stopped:
        case State::dead:
            if (event == Event::start_begun) return State::starting;
            return std::nullopt;
        case State::destroying:
            return std::nullopt;
    }
    return std::nullopt;
}

bool has_process(State state) noexcept {
    switch (state) {
        case State::creating:
        case State::starting:
        case State::running:
        case State::paused:
        case State::stopping:
            return true;
        case State::suspended:
        case State::stopped:
        case State::dead:
        case State::destroying:
            return false;
    }
    return false;
}

std::string refusal(std::string_view name, State state, std::string_view wanted) {
    return fmt::format("VM '{}' is {}; it cannot be {}", name, name_of(state), wanted);
}

}  // namespace noid::vm
