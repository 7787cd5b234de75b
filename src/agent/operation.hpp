#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "agent/cgroups.hpp"
#include "agent/children.hpp"
#include "agent/event_loop.hpp"
#include "base/error.hpp"
#include "proto/guest_session.hpp"

namespace noid::agent {

// What operations need of the agent.
struct Context {
    EventLoop& loop;
    Children& children;
    Cgroups& cgroups;
    std::vector<std::string> environment;  // of this machine, "K=V", for every command
    // Nothing when it is gone.
    std::function<proto::GuestSession*(proto::SessionId)> find_session;
};

// What a session does: moves bytes between the session's streams and a process, a file, a
// connection. Destroying it ends that at once and undoes what was not finished.
//
// Lives on the loop. A hook may end the session; the session destroys the operation later.
class Operation {
  public:
    Operation() = default;
    Operation(const Operation&) = delete;
    Operation& operator=(const Operation&) = delete;
    virtual ~Operation() = default;

    // Once, first. What goes wrong ends the session.
    virtual void start() = 0;
    virtual void on_input() {}
    virtual void on_output_room(proto::OutputStream) {}
    virtual void on_signal(int) {}
    virtual void on_resize(proto::TerminalSize) {}

    // For listings.
    [[nodiscard]] virtual const char* kind() const noexcept = 0;
    [[nodiscard]] virtual std::string describe() const = 0;
    [[nodiscard]] virtual std::uint32_t pid() const noexcept { return 0; }
    [[nodiscard]] virtual bool has_terminal() const noexcept { return false; }
};

// The one that the specification asks for.
[[nodiscard]] std::unique_ptr<Operation> make_operation(Context& context, proto::GuestSession& session,
                                                        proto::Operation wanted);

// Ends the session because of an error.
void end_failed(proto::GuestSession& session, const Error& error);

}  // namespace noid::agent
