#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "vm/vm.hpp"

namespace noid::ingress {

// The connections that are in guests now: bounded for each VM, so that visitors cannot take all its
// sessions, and ended when the port that let them in is withdrawn. Thread-safe.
class Visits {
  public:
    explicit Visits(std::size_t limit) : limit_{limit} {}

    // One connection, for as long as it lives.
    class Visit {
      public:
        Visit(Visits& owner, std::uint64_t key) : owner_{owner}, key_{key} {}
        Visit(const Visit&) = delete;
        Visit& operator=(const Visit&) = delete;
        ~Visit() { owner_.leave(key_); }

      private:
        Visits& owner_;
        std::uint64_t key_;
    };

    // nullptr when the VM has as many as it may. `end` is called on any thread when the visit must end;
    // it may be called while the Visit is taken away.
    [[nodiscard]] std::unique_ptr<Visit> enter(const vm::Vm& vm, std::uint16_t guest_port,
                                               std::function<void()> end);
    // Those of one port; those of all.
    void end(const vm::Vm* vm, std::uint16_t guest_port);
    void end_all();

  private:
    struct Entry {
        const vm::Vm* vm = nullptr;  // compared, never followed
        std::uint16_t guest_port = 0;
        std::function<void()> end;
    };
    void leave(std::uint64_t key);

    const std::size_t limit_;
    std::mutex mutex_;
    std::uint64_t next_key_ = 1;
    std::map<std::uint64_t, Entry> entries_;
    std::unordered_map<const vm::Vm*, std::size_t> counts_;
};

}  // namespace noid::ingress
