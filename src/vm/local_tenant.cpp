#include "vm/local_tenant.hpp"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <mutex>

#include "base/log.hpp"
#include "base/random.hpp"
#include "vm/create_request.hpp"
#include "vm/machine_spec.hpp"
#include "vm/warm_pool.hpp"

namespace noid::vm {

namespace {

constexpr std::int64_t replay_lifetime_s = 24 * 60 * 60;

std::int64_t unix_now() {
    return std::chrono::duration_cast<std::chrono::seconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
}

// The size of an image or kernel that must be there. not_found with a text that existing clients know.
Result<std::uint64_t> size_of(const char* what, const std::filesystem::path& file) {
    struct stat status {};
    if (::stat(file.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) {
        return fail(Errc::not_found, fmt::format("{} not found: {}", what, file.string()));
    }
    return static_cast<std::uint64_t>(status.st_size);
}

}  // namespace

// A name that is taken and a key that is in work while a VM is being made; given back unless kept.
class LocalTenant::Reservation {
  public:
    Reservation(std::shared_ptr<LocalTenant> tenant, std::shared_ptr<VmActor> actor, std::string key)
        : tenant_{std::move(tenant)}, actor_{std::move(actor)}, key_{std::move(key)} {}
    Reservation(Reservation&&) noexcept = default;
    Reservation& operator=(Reservation&&) = delete;
    ~Reservation() {
        if (!tenant_) return;
        {
            const std::unique_lock lock{tenant_->mutex_};
            tenant_->keys_in_work_.erase(key_);
        }
        if (!kept_) tenant_->forget(actor_);
    }
    void keep() noexcept { kept_ = true; }

  private:
    std::shared_ptr<LocalTenant> tenant_;
    std::shared_ptr<VmActor> actor_;
    std::string key_;
    bool kept_ = false;
};

std::vector<VmView> LocalTenant::list() const {
    const std::shared_lock lock{mutex_};
    std::vector<VmView> views;
    views.reserve(vms_.size());
    for (const auto& actor : vms_) views.push_back(actor->view());
    return views;
}

std::uint64_t LocalTenant::revision() const {
    return context_->revision.load(std::memory_order_relaxed);
}

std::vector<std::shared_ptr<VmActor>> LocalTenant::actors() const {
    const std::shared_lock lock{mutex_};
    return vms_;
}

std::shared_ptr<VmActor> LocalTenant::actor_of(const VmName& name) const {
    const std::shared_lock lock{mutex_};
    const auto found =
        std::ranges::find_if(vms_, [&](const auto& actor) { return actor->record().name == name; });
    return found == vms_.end() ? nullptr : *found;
}

Result<std::shared_ptr<Vm>> LocalTenant::find(const VmName& name) const {
    auto actor = actor_of(name);
    if (!actor) return fail(Errc::not_found, fmt::format("VM '{}' not found", name.text()));
    return actor;
}

void LocalTenant::forget(const std::shared_ptr<VmActor>& actor) {
    {
        const std::unique_lock lock{mutex_};
        std::erase(vms_, actor);
    }
    host_.ports.remove(*actor);
    context_->revision.fetch_add(1, std::memory_order_relaxed);
}

// Takes the name, or says why not. Everything is decided under one lock, so that two creates at once
// never get the same name or exceed the limit together.
Result<LocalTenant::Reservation> LocalTenant::reserve(std::shared_ptr<VmActor> actor,
                                                      const std::string& key) {
    const std::unique_lock lock{mutex_};
    if (closed_) return fail(Errc::unavailable, "no new VM is accepted now");
    const VmName& name = actor->record().name;
    for (const auto& other : vms_) {
        if (other->record().name == name) {
            return fail(Errc::conflict, fmt::format("VM '{}' already exists", name.text()));
        }
    }
    const std::uint64_t most = context_->quota.allowed().vms;
    if (vms_.size() >= most) {
        return fail(Errc::limit_exceeded,
                    fmt::format("{} VMs exist already, and the limit is {}", vms_.size(), most));
    }
    if (!key.empty() && !keys_in_work_.insert(key).second) {
        return fail(Errc::conflict, "a request with this idempotency key is still being carried out");
    }
    vms_.push_back(actor);
    return Reservation{shared_from_this(), std::move(actor), key};
}

// The answer that was given to this key before, if it was given within a day.
Awaitable<Result<std::optional<Tenant::Created>>> LocalTenant::replay(const CreateRequest& request,
                                                                      const std::string& fingerprint_now) {
    if (request.idempotency_key.empty()) co_return std::optional<Created>{};
    auto look = [context = context_, key = request.idempotency_key] {
        return context->database->replay(key, unix_now() - replay_lifetime_s);
    };
    auto found = co_await on_pool(host_.databases, std::move(look));
    if (!found) co_return fail(std::move(found.error()));
    if (!*found) co_return std::optional<Created>{};
    if ((*found)->request_hash != fingerprint_now) {
        co_return fail(Errc::conflict, "this idempotency key was used for a different request");
    }
    auto record = VmRecord::from_json((*found)->answer);
    if (!record) co_return fail(std::move(record.error()));
    if (auto actor = actor_of(record->name); actor && actor->record().id == record->id) {
        co_return Created{actor->view(), true};
    }
    // It is gone by now; the answer is still the one that was given.
    VmStatus status;
    status.state = State::running;
    co_return Created{VmActor::render(host_, *record, status), true};
}

Awaitable<Result<Tenant::Created>> LocalTenant::create(CreateRequest request) {
    auto self = shared_from_this();
    const config::ServerConfig& config = host_.config;
    if (auto valid = check(request, config.limits); !valid) co_return fail(std::move(valid.error()));
    const std::string fingerprint_now = fingerprint(request);
    auto answered = co_await replay(request, fingerprint_now);
    if (!answered) co_return fail(std::move(answered.error()));
    if (*answered) co_return std::move(**answered);

    VmActor::Making making;
    making.image = config.paths.rootfs;
    making.boot = request.boot;
    if (!request.image.empty()) {
        making.image = config.paths.data_dir / "images" / (request.image + ".ext4");
    }
    auto look = [&config, &making]() -> Result<std::uint64_t> {
        if (auto kernel = size_of("kernel", config.paths.kernel); !kernel) return kernel;
        return size_of("rootfs", making.image);
    };
    auto image_bytes = co_await on_pool(host_.files, std::move(look));
    if (!image_bytes) co_return fail(std::move(image_bytes.error()));
    auto disk = disk_size(request, *image_bytes, config.limits);
    if (!disk) co_return fail(std::move(disk.error()));

    VmRecord record{.id = random_hex(8), .name = request.name};
    record.cpus = request.cpus;
    record.memory = request.memory;
    record.disk = *disk;
    record.labels = std::move(request.labels);
    record.env = std::move(request.env);
    record.image = request.image;
    record.network = std::move(request.network);
    record.resources = resources_of_new_vm(request.resources, config.limits);
    record.machine_id = random_hex(16);
    record.created_unix = unix_now();
    record.vmm = vmm::name_of(host_.vmm.description().kind);
    if (!request.idempotency_key.empty()) {
        making.replay = store::Replay{request.idempotency_key, fingerprint_now, "", record.created_unix};
    }
    VmStatus status;
    status.ports = request.ports;
    const auto busy = host_.warm.busy();
    std::optional<asio::any_io_executor> strand;
    if (!making.boot) making.warm = co_await borrow_warm(record, making.image);
    if (making.warm) {
        record.id = making.warm->id();
        strand = making.warm->strand();
    }
    auto actor = VmActor::create(host_, context_, std::move(record), std::move(status), std::move(strand));
    auto reservation = reserve(actor, request.idempotency_key);
    if (!reservation) {
        // The first request with this key may have come to its end since the look above.
        answered = co_await replay(request, fingerprint_now);
        if (answered && *answered) co_return std::move(**answered);
        co_return fail(std::move(reservation.error()));
    }
    if (auto assigned = host_.ports.assign(actor, request.ports); !assigned)
        co_return fail(std::move(assigned.error()));
    if (auto made = co_await actor->make(std::move(making)); !made) co_return fail(std::move(made.error()));
    reservation->keep();
    co_return Created{actor->view(), false};
}

// A machine that waits for a VM of that kind. With or without a network is decided later: where the host has
// one, such machines have one too.
Awaitable<WarmPool::Loan> LocalTenant::borrow_warm(const VmRecord& record, std::filesystem::path image) {
    if (!host_.warm.is_wanted()) co_return WarmPool::Loan{};
    const auto machine =
        machine_spec(host_.config, record.id, {}, record.cpus, record.memory, std::optional<Slot>{});
    auto look = [this, shape = shape_of(machine, std::move(image), record.disk),
                 default_image = record.image.empty()]() mutable {
        bool missed = false;
        for (const bool has_network : {true, false}) {
            shape.has_network = has_network;
            const auto found = host_.templates.find(shape, default_image);
            if (!found.origin) continue;
            if (auto loan = host_.warm.borrow(*found.origin)) return loan;
            missed = true;
        }
        if (missed) host_.warm.count_missed();
        return WarmPool::Loan{};
    };
    co_return co_await on_pool(host_.files, std::move(look));
}

Awaitable<Result<VmView>> LocalTenant::create_from(Origin origin, VmName name, std::string id) {
    auto self = shared_from_this();
    const auto busy = host_.warm.busy();
    const SnapshotConfig& config = origin.config;
    if (const std::string obstacle = config.obstacle(host_.vmm.description()); !obstacle.empty())
        co_return fail(Errc::unsupported, obstacle);
    CreateRequest like{.name = name};
    like.cpus = config.cpus;
    like.memory = config.memory;
    like.disk = config.disk;
    if (auto allowed = check(like, host_.config.limits); !allowed) co_return fail(std::move(allowed.error()));

    VmRecord record{.id = std::move(id), .name = std::move(name)};
    record.cpus = config.cpus;
    record.memory = config.memory;
    record.disk = config.disk;
    record.env = config.env;
    record.image = config.image;
    record.network = config.network;
    record.resources = resources_of_clone(config.resources, config.memory, host_.config.limits);
    if (config.has_memory && !config.has_network && config.network.mode != NetworkMode::none) {
        record.network.mode = NetworkMode::none;
        record.warnings.push_back("no network: the checkpoint was made of a VM without one");
    }
    record.machine_id = random_hex(16);
    record.created_unix = unix_now();
    record.vmm = vmm::name_of(host_.vmm.description().kind);
    auto actor = VmActor::create(host_, context_, std::move(record), VmStatus{});
    auto reservation = reserve(actor, {});
    if (!reservation) co_return fail(std::move(reservation.error()));
    VmActor::Making making;
    making.from = std::move(origin);
    if (auto made = co_await actor->make(std::move(making)); !made) co_return fail(std::move(made.error()));
    reservation->keep();
    co_return actor->view();
}

Awaitable<Result<bool>> LocalTenant::destroy(const VmName& name) {
    auto self = shared_from_this();
    auto actor = actor_of(name);
    if (!actor) co_return false;
    if (auto destroyed = co_await actor->destroy(); !destroyed) co_return fail(std::move(destroyed.error()));
    forget(actor);
    co_return true;
}

}  // namespace noid::vm
