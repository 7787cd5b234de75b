// Sessions with a VM's guest, and its serial console.
#include <fmt/format.h>

#include <chrono>

#include "vm/vm_actor.hpp"
#include "vm/vm_operation.hpp"

namespace noid::vm {

// The guest, once the VM runs and its agent answers on the present connection.
Awaitable<Result<std::shared_ptr<VmActor::Guest>>> VmActor::running_guest() {
    while (true) {
        if (abandoned_) co_return fail(*abandoned_);
        switch (status_.state) {
            case State::creating:
            case State::starting:
                co_await changed_.wait();
                continue;
            case State::running:
                break;
            case State::paused:
                co_return fail(Errc::conflict,
                               fmt::format("VM '{}' is paused; resume it first", record_.name.text()));
            case State::stopped:
            case State::dead:
                co_return fail(Errc::conflict, fmt::format("VM '{}' is {}; start it first",
                                                           record_.name.text(), name_of(status_.state)));
            case State::suspended:
                if (auto woken = co_await wake(); !woken) co_return fail(std::move(woken.error()));
                continue;
            case State::stopping:
            case State::destroying:
                co_return fail(Errc::conflict,
                               fmt::format("VM '{}' is {}", record_.name.text(), name_of(status_.state)));
        }
        auto guest = guest_;
        if (auto fits = fits_vmm(); !fits) co_return fail(std::move(fits.error()));
        if (!guest)
            co_return fail(Errc::unavailable,
                           fmt::format("the VMM of VM '{}' has ended", record_.name.text()));
        auto agent = co_await guest->channel->ready(host_.config.guest.boot_timeout);
        if (!agent) co_return fail(std::move(agent.error()));
        if (guest != guest_ || status_.state != State::running) continue;
        if (!agent_) {  // the first answer since the server was restarted
            agent_ = std::move(*agent);
            publish();
        }
        last_used_ = std::chrono::steady_clock::now();
        co_return guest;
    }
}

Awaitable<Result<void>> VmActor::ready(std::chrono::milliseconds limit) {
    auto self = shared_from_this();
    auto wait = [self, limit]() -> Awaitable<Result<void>> {
        auto guest = co_await within(limit, self->running_guest());
        if (!guest && guest.error().code == Errc::timed_out) {
            co_return fail(Errc::timed_out,
                           fmt::format("VM '{}' did not answer in time", self->record_.name.text()));
        }
        if (!guest) co_return fail(std::move(guest.error()));
        co_return Result<void>{};
    };
    co_return co_await on_strand(strand_, wait);
}

Awaitable<Result<std::shared_ptr<channel::Session>>> VmActor::open(proto::SessionSpec spec) {
    auto self = shared_from_this();
    auto begin = [self, &spec]() -> Awaitable<Result<std::shared_ptr<channel::Session>>> {
        auto guest = co_await within(self->host_.config.guest.boot_timeout, self->running_guest());
        if (!guest) co_return fail(std::move(guest.error()));
        const std::size_t most = self->host_.config.limits.max_sessions_per_vm;
        if ((*guest)->channel->attached_sessions() + self->opening_ >= most) {
            co_return fail(Errc::limit_exceeded,
                           fmt::format("VM '{}' has {} sessions already, which is the limit",
                                       self->record_.name.text(), most));
        }
        const Counted counted{self->opening_};
        co_return co_await (*guest)->channel->open(std::move(spec));
    };
    co_return co_await on_strand(strand_, begin);
}

Awaitable<Result<std::shared_ptr<channel::Session>>> VmActor::attach(proto::SessionId id,
                                                                     proto::OutputOffsets have) {
    auto self = shared_from_this();
    auto begin = [self, id, have]() -> Awaitable<Result<std::shared_ptr<channel::Session>>> {
        auto guest = co_await within(self->host_.config.guest.boot_timeout, self->running_guest());
        if (!guest) co_return fail(std::move(guest.error()));
        co_return co_await (*guest)->channel->attach(id, have);
    };
    co_return co_await on_strand(strand_, begin);
}

Awaitable<Result<std::vector<proto::SessionInfo>>> VmActor::sessions() {
    auto self = shared_from_this();
    auto ask = [self]() -> Awaitable<Result<std::vector<proto::SessionInfo>>> {
        // Looking is no use that a suspended VM should wake for.
        if (self->status_.state == State::suspended) co_return std::vector<proto::SessionInfo>{};
        auto guest = co_await within(self->host_.config.guest.boot_timeout, self->running_guest());
        if (!guest) co_return fail(std::move(guest.error()));
        co_return co_await (*guest)->channel->sessions();
    };
    co_return co_await on_strand(strand_, ask);
}

Awaitable<Result<std::shared_ptr<ConsoleReader>>> VmActor::console(std::uint64_t tail_bytes, bool follow) {
    auto self = shared_from_this();
    auto open_reader = [self, tail_bytes, follow]() -> Awaitable<Result<std::shared_ptr<ConsoleReader>>> {
        co_return self->console_->reader(tail_bytes, follow);
    };
    co_return co_await on_strand(strand_, open_reader);
}

Awaitable<Result<void>> VmActor::write_console(std::string bytes) {
    auto self = shared_from_this();
    auto write = [self, &bytes]() -> Awaitable<Result<void>> {
        if (self->status_.state == State::suspended) {
            if (auto woken = co_await self->wake(); !woken) co_return woken;
        }
        if (!self->guest_) co_return self->refuse("written to");
        auto guest = self->guest_;
        co_return co_await guest->machine->write_console(bytes);
    };
    co_return co_await on_strand(strand_, write);
}

}  // namespace noid::vm
