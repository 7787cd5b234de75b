#pragma once

#include <sys/types.h>

#include <functional>
#include <unordered_map>

#include "agent/event_loop.hpp"
#include "base/fd.hpp"

namespace noid::agent {

// Reaps every child of this process and tells whoever waits for it. As a subreaper the agent also
// inherits what its sessions left behind; those are reaped silently.
class Children {
  public:
    // Blocks SIGCHLD, which is then read from a descriptor. Throws when the kernel refuses that.
    explicit Children(EventLoop& loop);

    // `done` is called from the loop, once, with the wait status. A child that was reaped before
    // this call is lost: call it in the turn that started the child.
    using Done = std::function<void(int status)>;
    void await(pid_t pid, Done done) { awaited_.insert_or_assign(pid, std::move(done)); }
    // Nobody is told; the child is still reaped.
    void forget(pid_t pid) { awaited_.erase(pid); }
    // Tells of those that have ended, now instead of when their signal has its turn.
    void reap();

  private:
    Fd signals_;
    std::unordered_map<pid_t, Done> awaited_;
    EventLoop::Watch watch_;
};

}  // namespace noid::agent
