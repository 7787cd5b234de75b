#pragma once

#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "base/units.hpp"
#include "vm/snapshot.hpp"
#include "vmm/vmm.hpp"

namespace noid::vm {

// What two VMs must have in common to wake from one template.
struct Shape {
    std::filesystem::path image;
    std::filesystem::path kernel;
    std::filesystem::path initrd;  // empty: none
    std::string kernel_arguments;
    std::uint32_t cpus = 1;
    MiB memory;
    MiB disk;
    bool has_network = false;
};

// Of a machine that boots `image` on a disk of that size.
[[nodiscard]] Shape shape_of(const vmm::MachineSpec& machine, std::filesystem::path image, MiB disk);

// Machines that have just booted, saved before anybody used them: <data_dir>/templates/<key>/, and the one
// that an operator made, <data_dir>/golden/. A template is replaced or removed at any time; VMs that woke
// from it keep what they need. Everything blocks. Thread-safe.
class TemplateStore {
  public:
    // `budget`: bytes on disk that templates (not golden) may occupy; 0: none are made.
    TemplateStore(std::filesystem::path templates, std::filesystem::path golden, MiB budget,
                  const vmm::Description& vmm)
        : templates_{std::move(templates)}, golden_{std::move(golden)}, budget_{budget}, vmm_{vmm} {}

    // Removes what was left unfinished. Once, at the start.
    [[nodiscard]] Result<void> clean() const;

    struct Found {
        std::optional<Origin> origin;  // wake from it
        std::string stale;             // a template is there but does not fit any more: why
    };
    // `default_image`: only such VMs wake from golden.
    [[nodiscard]] Found find(const Shape& shape, bool default_image) const;

    // A place to save a template of that shape in; nullopt when there is one that fits by now, another VM is
    // at it, or none are wanted.
    struct Bake {
        SnapshotDraft draft;
        std::map<std::string, std::string> sources;
        std::string key;
    };
    [[nodiscard]] Result<std::optional<Bake>> begin(const Shape& shape) const;
    // In place of the template that was there; then the least recently used go until the budget is kept.
    [[nodiscard]] Result<void> publish(Bake bake, SnapshotConfig config) const;
    // What could be woken from now: golden, then templates, the one used last first.
    [[nodiscard]] std::vector<Origin> usable() const;
    // Where an entry changes when one of them does: the directory of templates, and golden itself.
    [[nodiscard]] std::pair<std::filesystem::path, std::filesystem::path> places() const {
        return {templates_, golden_};
    }
    // It did not wake.
    void drop(const Origin& origin) const;

  private:
    [[nodiscard]] Result<void> keep_budget(const std::string& newest) const;

    const std::filesystem::path templates_;
    const std::filesystem::path golden_;
    const MiB budget_;
    const vmm::Description vmm_;
    mutable std::mutex publishing_;
};

}  // namespace noid::vm
