#include "vm/types.hpp"

#include "wire/names.hpp"

namespace noid::vm {

Result<VmName> VmName::parse(std::string_view text) {
    if (auto valid = wire::check_vm_name(text); !valid) return fail(std::move(valid.error()));
    return VmName{std::string{text}};
}

std::string_view name_of(State state) noexcept {
    switch (state) {
        case State::creating:
            return "creating";
        case State::starting:
            return "starting";
        case State::running:
            return "running";
        case State::paused:
            return "paused";
        case State::suspended:
            return "suspended";
        case State::stopping:
            return "stopping";
        case State::stopped:
            return "stopped";
        case State::dead:
            return "dead";
        case State::destroying:
            return "destroying";
    }
    return "dead";
}

std::optional<State> parse_state(std::string_view text) noexcept {
    for (const State state :
         {State::creating, State::starting, State::running, State::paused, State::suspended, State::stopping,
          State::stopped, State::dead, State::destroying}) {
        if (name_of(state) == text) return state;
    }
    return std::nullopt;
}

}  // namespace noid::vm
