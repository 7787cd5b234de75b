#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>

#include "vm/tenant_context.hpp"

namespace noid::vm {

// Takes the hashes of checkpoints once they are published, so that fsck and export can tell a damaged one.
// One at a time, on a thread that gets the processor and the disk only when nobody else wants them. A
// checkpoint that is removed meanwhile is given up; what is left at the end is for the next server, which
// finds it without hashes. Thread-safe.
class CheckpointHasher {
  public:
    // `taken`: called after each.
    explicit CheckpointHasher(std::function<void()> taken);
    CheckpointHasher(const CheckpointHasher&) = delete;
    CheckpointHasher& operator=(const CheckpointHasher&) = delete;
    // As stop().
    ~CheckpointHasher();

    // Unless it has them all.
    void add(std::shared_ptr<TenantContext> tenant, const SnapshotConfig& checkpoint);
    // Ends it between two pieces of a file. Blocks for the moment that one takes.
    void stop();

  private:
    struct Job {
        std::shared_ptr<TenantContext> tenant;
        std::string vm_name;
        std::string checkpoint;
    };
    void work(const std::stop_token& stop);
    void hash(const std::stop_token& stop, const Job& job);

    const std::function<void()> taken_;
    std::mutex mutex_;
    std::condition_variable_any added_;
    std::deque<Job> jobs_;  // guarded by mutex_
    std::jthread thread_;
};

}  // namespace noid::vm
