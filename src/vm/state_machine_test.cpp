#include "vm/state_machine.hpp"

#include <gtest/gtest.h>

#include <array>
#include <map>

namespace noid::vm {
namespace {

constexpr std::array states = {State::creating,  State::starting, State::running,
                               State::paused,    State::stopping, State::stopped,
                               State::suspended, State::dead,     State::destroying};
constexpr std::array events = {Event::start_begun, Event::start_failed,      Event::agent_answered,
                               Event::paused,      Event::resumed,           Event::stop_begun,
                               Event::vmm_crashed, Event::guest_powered_off, Event::destroy_begun,
                               Event::suspended,   Event::wake_failed};

// The whole table, written out a second time: a change of the life cycle has to be made here too.
TEST(StateMachine, IsExactlyThisTable) {
    using S = State;
    using E = Event;
    std::map<std::pair<S, E>, S> table = {
        {{S::creating, E::agent_answered}, S::running},    {{S::starting, E::agent_answered}, S::running},
        {{S::starting, E::start_failed}, S::stopped},      {{S::starting, E::vmm_crashed}, S::dead},
        {{S::starting, E::guest_powered_off}, S::dead},    {{S::running, E::paused}, S::paused},
        {{S::running, E::stop_begun}, S::stopping},        {{S::running, E::vmm_crashed}, S::dead},
        {{S::running, E::guest_powered_off}, S::stopped},  {{S::paused, E::resumed}, S::running},
        {{S::paused, E::stop_begun}, S::stopping},         {{S::paused, E::vmm_crashed}, S::dead},
        {{S::paused, E::guest_powered_off}, S::dead},      {{S::stopping, E::vmm_crashed}, S::stopped},
        {{S::stopping, E::guest_powered_off}, S::stopped}, {{S::stopped, E::start_begun}, S::starting},
        {{S::suspended, E::start_begun}, S::starting},     {{S::dead, E::start_begun}, S::starting},
        {{S::starting, E::wake_failed}, S::suspended},     {{S::running, E::suspended}, S::suspended},
        {{S::paused, E::suspended}, S::suspended},         {{S::suspended, E::stop_begun}, S::stopping},
    };
    for (const State state : states) table[{state, E::destroy_begun}] = S::destroying;
    for (const State state : states) {
        for (const Event event : events) {
            const auto expected = table.find({state, event});
            const auto actual = next(state, event);
            if (expected == table.end()) {
                EXPECT_FALSE(actual) << name_of(state) << " event " << static_cast<int>(event);
            } else {
                EXPECT_EQ(actual, expected->second) << name_of(state) << " event " << static_cast<int>(event);
            }
        }
    }
}

TEST(StateMachine, EveryStateCanBeDestroyed) {
    for (const State state : states) EXPECT_EQ(next(state, Event::destroy_begun), State::destroying);
}

TEST(StateMachine, ARefusalNamesVmAndState) {
    EXPECT_EQ(refusal("web", State::stopped, "paused"), "VM 'web' is stopped; it cannot be paused");
}

}  // namespace
}  // namespace noid::vm
