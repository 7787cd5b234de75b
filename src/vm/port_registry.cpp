#include "vm/port_registry.hpp"

#include <fmt/format.h>

#include <utility>

namespace noid::vm {

Result<void> PortRegistry::assign(const std::shared_ptr<Vm>& vm, const std::vector<PublishedPort>& ports) {
    {
        const std::lock_guard lock{mutex_};
        for (const PublishedPort& port : ports) {
            const auto owner = owners_.find(port.host);
            if (owner != owners_.end() && owner->second.identity != vm.get())
                return fail(Errc::conflict, fmt::format("port {} of the host is taken", port.host));
        }
        std::erase_if(owners_, [&](const auto& entry) { return entry.second.identity == vm.get(); });
        for (const PublishedPort& port : ports) owners_.emplace(port.host, Owner{vm.get(), vm, port});
    }
    notify();
    return {};
}

void PortRegistry::remove(const Vm& vm) {
    {
        const std::lock_guard lock{mutex_};
        if (std::erase_if(owners_, [&](const auto& entry) { return entry.second.identity == &vm; }) == 0)
            return;
    }
    notify();
}

std::vector<PortRegistry::Publication> PortRegistry::all() const {
    const std::lock_guard lock{mutex_};
    std::vector<Publication> publications;
    for (const auto& [host, owner] : owners_) {
        if (auto vm = owner.vm.lock()) publications.push_back({std::move(vm), owner.port});
    }
    return publications;
}

void PortRegistry::watch(std::function<void()> changed) {
    const std::lock_guard lock{watcher_mutex_};
    changed_ = std::move(changed);
}

void PortRegistry::notify() {
    const std::lock_guard lock{watcher_mutex_};
    if (changed_) changed_();
}

}  // namespace noid::vm
