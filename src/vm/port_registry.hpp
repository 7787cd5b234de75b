#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "base/error.hpp"
#include "vm/network_settings.hpp"

namespace noid::vm {

class Vm;

// Which VM of this server has which ports of the host. Says what is to be published; who listens there
// follows it. Thread-safe.
class PortRegistry {
  public:
    struct Publication {
        std::shared_ptr<Vm> vm;
        PublishedPort port;
    };

    // The VM has these ports from now on, all of them or, when another VM has one, none: `conflict`.
    [[nodiscard]] Result<void> assign(const std::shared_ptr<Vm>& vm, const std::vector<PublishedPort>& ports);
    // The VM has none any more.
    void remove(const Vm& vm);

    // Ordered by the host's port.
    [[nodiscard]] std::vector<Publication> all() const;
    // `changed` is called after every change, on the thread that made it, until it is replaced; it must
    // not call back into the registry but post what it has to do.
    void watch(std::function<void()> changed);

  private:
    struct Owner {
        const Vm* identity;
        std::weak_ptr<Vm> vm;
        PublishedPort port;
    };
    void notify();

    mutable std::mutex mutex_;
    std::map<std::uint16_t, Owner> owners_;  // by the host's port
    std::mutex watcher_mutex_;               // so that a replaced watcher is called no more
    std::function<void()> changed_;
};

}  // namespace noid::vm
