// How a VM's first boot becomes the template of its shape.
#include "base/log.hpp"
#include "vm/suspension_files.hpp"
#include "vm/vm_actor.hpp"
#include "vm/vm_operation.hpp"

namespace noid::vm {

// Looks for something to wake from instead of booting.
Awaitable<std::optional<Origin>> VmActor::find_template(std::filesystem::path image) {
    auto look = [&templates = host_.templates, shape = shape_of(spec(), image, record_.disk),
                 default_image = record_.image.empty()] { return templates.find(shape, default_image); };
    auto found = co_await on_pool(host_.files, std::move(look));
    if (!found.stale.empty()) {
        log::warn("cold boot instead of a template", {{"vm", record_.name.text()}, {"reason", found.stale}});
        status_.notice = found.stale + "; booted instead";
    }
    co_return std::move(found.origin);
}

// The guest is up and nobody has used it, nor does it know who it is: saves it for those that come after.
// Whatever goes wrong, the VM itself is not concerned.
Awaitable<void> VmActor::bake_template(std::shared_ptr<Guest> guest, std::filesystem::path image) {
    auto begin = [&templates = host_.templates, shape = shape_of(spec(), image, record_.disk)] {
        return templates.begin(shape);
    };
    auto bake = co_await on_pool(host_.files, std::move(begin));
    if (bake && !*bake) co_return;
    Result<Instant> saved = fail(Errc::internal, "not begun");
    SnapshotConfig config = describe_snapshot();
    config.vm_name.clear();
    config.vm_id.clear();
    config.env.clear();
    if (bake) {
        auto with_disk = [from = directory(), to = (*bake)->draft.directory(), &volume = host_.volume] {
            return clone_file(volume, from / disk_file, to / disk_file);
        };
        saved = co_await save_instant(guest, with_disk, AfterSave::go_on);
        auto move = [from = directory(), to = (*bake)->draft.directory()] {
            return move_saved_memory(from, to);
        };
        if (saved) {
            if (auto moved = co_await on_pool(host_.files, std::move(move)); !moved)
                saved = fail(std::move(moved.error()));
        }
    } else {
        saved = fail(std::move(bake.error()));
    }
    if (!saved) {
        log::warn("no template was made", {{"vm", record_.name.text()}, {"reason", saved.error().full()}});
        co_await drop_unfinished_save();
        co_return;
    }
    status_.lineage.basis = Lineage::Basis::none;
    config.memory_bytes_written = saved->report.bytes_written;
    config.paused = saved->paused;
    watchers_.spawn(publish_template(shared_from_this(), std::move(**bake), std::move(config)));
}

// While the VM is in use already: bringing the files to the disk takes its time.
Awaitable<void> VmActor::publish_template(std::shared_ptr<VmActor> self, TemplateStore::Bake bake,
                                          SnapshotConfig config) {
    auto work = [&templates = self->host_.templates, &bake, &config] {
        return templates.publish(std::move(bake), std::move(config));
    };
    auto published = co_await on_pool(self->host_.files, std::move(work));
    if (published) {
        log::info("template made", {{"vm", self->record_.name.text()}});
    } else {
        log::warn("template not kept", {{"reason", published.error().full()}});
    }
}

}  // namespace noid::vm
