#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "base/async.hpp"
#include "base/error.hpp"
#include "channel/session.hpp"
#include "vm/vm.hpp"

namespace noid::ingress {

// A TCP connection to a port inside a guest, made by its agent: no network of the VM is needed, and what
// breaks between host and guest is waited through. May be used from any executor; one reader, one writer.
// When it is dropped before both ends have closed, the guest sees its connection die.
class GuestStream {
  public:
    // Wakes the VM when it is suspended. unavailable when nothing answers on the port, conflict when the
    // VM does not run.
    [[nodiscard]] static Awaitable<Result<std::unique_ptr<GuestStream>>> connect(std::shared_ptr<vm::Vm> vm,
                                                                                 std::uint16_t port);
    GuestStream(std::shared_ptr<vm::Vm> vm, std::shared_ptr<channel::Session> session);
    GuestStream(const GuestStream&) = delete;
    GuestStream& operator=(const GuestStream&) = delete;
    ~GuestStream();

    // The next bytes, empty when the guest has closed its end. What was read before counts as taken.
    Awaitable<Result<std::string>> read();
    // Returns when the bytes are in the guest's window: that is the back pressure.
    Awaitable<Result<void>> write(std::string bytes);
    // The guest reads the end of the connection behind what was written.
    void end_writing();
    // Waits, after both ends were closed, until the guest has taken everything.
    Awaitable<void> finish(std::chrono::milliseconds limit);
    // Ends it now: read() and write() fail.
    void abort();

  private:
    Awaitable<Result<channel::Session::Event>> next();
    Awaitable<Result<void>> wait_for_end();

    std::shared_ptr<vm::Vm> vm_;
    std::shared_ptr<channel::Session> session_;
    std::uint64_t received_ = 0;
    std::uint64_t acknowledged_ = 0;
    bool output_ended_ = false;
    bool ended_ = false;
};

}  // namespace noid::ingress
