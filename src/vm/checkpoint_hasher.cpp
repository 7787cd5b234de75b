#include "vm/checkpoint_hasher.hpp"

#include <linux/ioprio.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <exception>
#include <utility>

#include "base/log.hpp"
#include "vm/sha256.hpp"

namespace noid::vm {

namespace {

// Of this thread alone.
void give_way_to_everybody() {
    // Not SCHED_IDLE: who waits for a lock that this thread holds must not wait long.
    if (::setpriority(PRIO_PROCESS, 0, 19) != 0) log::debug("hashes are taken at normal priority");
    constexpr int lowest = IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0);
    if (::syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, lowest) != 0)
        log::debug("hashes are read at normal priority");
}

}  // namespace

CheckpointHasher::CheckpointHasher(std::function<void()> taken)
    : taken_{std::move(taken)}, thread_{[this](const std::stop_token& stop) { work(stop); }} {}

CheckpointHasher::~CheckpointHasher() {
    stop();
}

void CheckpointHasher::stop() {
    thread_.request_stop();
    if (thread_.joinable()) thread_.join();
}

void CheckpointHasher::add(std::shared_ptr<TenantContext> tenant, const SnapshotConfig& checkpoint) {
    if (checkpoint.has_all_hashes()) return;
    const std::lock_guard lock{mutex_};
    jobs_.push_back({std::move(tenant), checkpoint.vm_name, checkpoint.id});
    added_.notify_one();
}

void CheckpointHasher::work(const std::stop_token& stop) {
    give_way_to_everybody();
    while (true) {
        Job job;
        {
            std::unique_lock lock{mutex_};
            if (!added_.wait(lock, stop, [this] { return !jobs_.empty(); })) return;
            if (stop.stop_requested()) return;
            job = std::move(jobs_.front());
            jobs_.pop_front();
        }
        try {
            hash(stop, job);
        } catch (...) {
            log::exception("hash of a checkpoint", std::current_exception());
        }
    }
}

void CheckpointHasher::hash(const std::stop_token& stop, const Job& job) {
    CheckpointIndex& index = job.tenant->checkpoints;
    const auto go_on = [&] { return !stop.stop_requested() && index.contains(job.checkpoint); };
    const auto place = index.directory() / job.vm_name / job.checkpoint;
    std::map<std::string, std::string> hashes;
    const auto config = read_snapshot(place);
    Result<void> done;
    if (!config) done = fail(config.error());
    for (const char* name : config ? config->files() : std::vector<const char*>{}) {
        auto taken = content_hash(place / name, go_on);
        if (!taken) done = fail(std::move(taken.error()).at(name));
        if (!done) break;
        hashes[name] = std::move(*taken);
    }
    if (done) {
        auto changed = index.change(job.checkpoint, [&](SnapshotConfig& now) { now.sha256 = hashes; });
        if (!changed) done = fail(std::move(changed.error()));
    }
    if (done) taken_();
    if (done || !go_on()) return;
    log::warn(
        "checkpoint's hashes are not taken",
        {{"user", job.tenant->user_name}, {"checkpoint", job.checkpoint}, {"reason", done.error().full()}});
}

}  // namespace noid::vm
