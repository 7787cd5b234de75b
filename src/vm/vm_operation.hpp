#pragma once

#include <cstddef>

#include "vm/vm_actor.hpp"

// The frame around every operation on a VM; included by the files that implement VmActor.
namespace noid::vm {

// Counts something for as long as it lives.
class Counted {
  public:
    explicit Counted(std::size_t& count) : count_{count} { ++count_; }
    Counted(const Counted&) = delete;
    Counted& operator=(const Counted&) = delete;
    ~Counted() { --count_; }

  private:
    std::size_t& count_;
};

// Hops to the strand, waits for the turn, and refuses when the VM is being given up.
template <class Work>
auto VmActor::run_operation(Work work) -> std::invoke_result_t<Work&> {
    auto self = shared_from_this();
    auto with_turn = [self, &work]() -> std::invoke_result_t<Work&> {
        auto turn = co_await self->operations_.turn();
        if (self->abandoned_) co_return fail(*self->abandoned_);
        co_return co_await work();
    };
    co_return co_await on_strand(strand_, with_turn);
}

// Runs `query` on the tenant's database, on the pool.
template <class Query>
auto VmActor::in_database(Query query) -> Awaitable<std::invoke_result_t<Query&, store::TenantDatabase&>> {
    auto work = [tenant = tenant_, &query] { return query(*tenant->database); };
    co_return co_await on_pool(host_.databases, std::move(work));
}

}  // namespace noid::vm
