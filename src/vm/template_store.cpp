#include "vm/template_store.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <vector>

#include "base/log.hpp"
#include "vm/data_directory.hpp"
#include "vm/token.hpp"
#include "vm/usage.hpp"

namespace noid::vm {

namespace fs = std::filesystem;

namespace {

// What a file is at present, and which it is: another content has another of these.
Result<std::string> state_of(const fs::path& file) {
    if (file.empty()) return std::string{};
    struct stat status {};
    if (::stat(file.c_str(), &status) != 0)
        return fail_errno(errno, fmt::format("look at {}", file.filename().string()));
    return fmt::format("{}:{}:{}:{}.{} {}", status.st_dev, status.st_ino, status.st_size,
                       status.st_mtim.tv_sec, status.st_mtim.tv_nsec, file.string());
}

// Whether the files that it booted from are what they were.
bool is_of_present_files(const SnapshotConfig& config) {
    return std::ranges::all_of(config.sources, [](const auto& source) {
        const std::string& then = source.second;
        const auto path = then.find(' ');
        if (path == std::string::npos) return then.empty();  // there was none, such as an initrd
        const auto now = state_of(then.substr(path + 1));
        return now && *now == then;
    });
}

Result<std::map<std::string, std::string>> sources_of(const Shape& shape) {
    std::map<std::string, std::string> sources;
    for (const auto& [name, file] :
         {std::pair{"image", shape.image}, {"kernel", shape.kernel}, {"initrd", shape.initrd}}) {
        auto state = state_of(file);
        if (!state) return fail(std::move(state.error()));
        sources[name] = std::move(*state);
    }
    return sources;
}

// The directory's name: what a create asks for. What may change under it is in config.json.
std::string key_of(const Shape& shape) {
    const std::string text = fmt::format("{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}", shape.image.string(),
                                         shape.kernel.string(), shape.initrd.string(), shape.kernel_arguments,
                                         shape.cpus, shape.memory.count, shape.disk.count, shape.has_network);
    return sha256_hex(text).substr(0, 32);
}

// In words, why a template cannot be used for these sources; empty when it can.
std::string obstacle(const SnapshotConfig& config, const std::map<std::string, std::string>& sources,
                     const vmm::Description& vmm) {
    for (const auto& [name, state] : sources) {
        const auto then = config.sources.find(name);
        if (then == config.sources.end() || then->second != state)
            return fmt::format("the {} has changed", name);
    }
    return config.obstacle(vmm);
}

}  // namespace

Shape shape_of(const vmm::MachineSpec& machine, fs::path image, MiB disk) {
    Shape shape;
    shape.image = std::move(image);
    shape.kernel = machine.kernel;
    shape.initrd = machine.initrd;
    shape.kernel_arguments = machine.kernel_arguments;
    shape.cpus = machine.vcpus;
    shape.memory = machine.memory;
    shape.disk = disk;
    shape.has_network = machine.network.has_value();
    return shape;
}

Result<void> TemplateStore::clean() const {
    auto names = names_in(templates_);
    if (!names) return fail(std::move(names.error()));
    for (const std::string& name : *names) {
        if (!name.starts_with('.')) continue;
        if (auto removed = remove_tree(templates_ / name); !removed) return removed;
    }
    return {};
}

TemplateStore::Found TemplateStore::find(const Shape& shape, bool default_image) const {
    if (default_image) {
        auto config = read_snapshot(golden_);
        if (!config && config.error().code != Errc::not_found)
            log::warn("golden cannot be used", {{"reason", config.error().full()}});
        const bool fits = config && config->has_memory && config->cpus == shape.cpus &&
                          config->memory == shape.memory && config->disk == shape.disk &&
                          config->has_network == shape.has_network;
        if (fits) {
            const std::string why = config->obstacle(vmm_);
            if (why.empty()) return {Origin{golden_, std::move(*config), "golden"}, {}};
            return {{}, "golden does not fit any more: " + why};
        }
    }
    if (budget_.count == 0) return {};
    const fs::path place = templates_ / key_of(shape);
    auto config = read_snapshot(place);
    if (!config && config.error().code == Errc::not_found) return {};
    if (!config) return {{}, "the template cannot be used: " + config.error().what};
    const auto sources = sources_of(shape);
    if (!sources) return {};
    if (const std::string why = obstacle(*config, *sources, vmm_); !why.empty())
        return {{}, "the template does not fit any more: " + why};
    ::utimensat(AT_FDCWD, place.c_str(), nullptr, 0);  // used now; keep_budget() asks
    return {Origin{place, std::move(*config), "template"}, {}};
}

Result<std::optional<TemplateStore::Bake>> TemplateStore::begin(const Shape& shape) const {
    if (budget_.count == 0) return std::nullopt;
    auto sources = sources_of(shape);
    if (!sources) return fail(std::move(sources.error()));
    std::string key = key_of(shape);
    // Of several VMs of a shape that boot at the same time, one makes the template.
    const auto present = read_snapshot(templates_ / key);
    if (present && obstacle(*present, *sources, vmm_).empty()) return std::nullopt;
    auto draft = SnapshotDraft::create(templates_, key);
    if (!draft && draft.error().code == Errc::conflict) return std::nullopt;
    if (!draft) return fail(std::move(draft.error()));
    return Bake{std::move(*draft), std::move(*sources), std::move(key)};
}

Result<void> TemplateStore::publish(Bake bake, SnapshotConfig config) const {
    config.sources = std::move(bake.sources);
    const std::lock_guard lock{publishing_};
    const fs::path place = templates_ / bake.key;
    const fs::path trash = templates_ / (".trash-" + bake.key);
    if (auto removed = remove_tree(trash); !removed) return removed;
    if (::rename(place.c_str(), trash.c_str()) != 0 && errno != ENOENT)
        return fail_errno(errno, "move the old template away");
    if (auto published = bake.draft.publish(config, place); !published) return published;
    if (auto removed = remove_tree(trash); !removed) return removed;
    return keep_budget(bake.key);
}

Result<void> TemplateStore::keep_budget(const std::string& newest) const {
    struct Entry {
        std::string name;
        fs::file_time_type used;
        std::uint64_t bytes = 0;
    };
    auto names = names_in(templates_);
    if (!names) return fail(std::move(names.error()));
    std::vector<Entry> entries;
    std::uint64_t total = 0;
    for (const std::string& name : *names) {
        if (name.starts_with('.')) continue;
        std::error_code failed;
        const auto used = fs::last_write_time(templates_ / name, failed);
        const std::uint64_t bytes = disk_usage(templates_ / name).value_or(0);
        total += bytes;
        if (!failed) entries.push_back({name, used, bytes});
    }
    std::ranges::sort(entries, {}, &Entry::used);
    for (const Entry& entry : entries) {
        if (total <= budget_.bytes()) return {};
        // Larger than the whole budget alone, it goes too.
        if (entry.name == newest && entry.bytes <= budget_.bytes()) continue;
        log::info("template gives way to others", {{"template", entry.name}});
        if (auto removed = remove_tree(templates_ / entry.name); !removed) return removed;
        total -= entry.bytes;
    }
    return {};
}

std::vector<Origin> TemplateStore::usable() const {
    std::vector<Origin> found;
    if (auto golden = read_snapshot(golden_); golden && golden->has_memory && golden->obstacle(vmm_).empty())
        found.push_back({golden_, std::move(*golden), "golden"});
    if (budget_.count == 0) return found;
    const auto names = names_in(templates_);
    if (!names) return found;
    std::vector<std::pair<fs::file_time_type, Origin>> templates;
    for (const std::string& name : *names) {
        if (name.starts_with('.')) continue;
        auto config = read_snapshot(templates_ / name);
        if (!config || !config->obstacle(vmm_).empty() || !is_of_present_files(*config)) continue;
        std::error_code failed;
        const auto used = fs::last_write_time(templates_ / name, failed);
        if (failed) continue;
        templates.emplace_back(used, Origin{templates_ / name, std::move(*config), "template"});
    }
    std::ranges::sort(templates, std::ranges::greater{}, [](const auto& entry) { return entry.first; });
    for (auto& [used, origin] : templates) found.push_back(std::move(origin));
    return found;
}

void TemplateStore::drop(const Origin& origin) const {
    if (origin.kind != "template") return;  // golden is the operator's
    const std::lock_guard lock{publishing_};
    if (auto removed = remove_tree(origin.place); !removed)
        log::warn("template that does not wake is left", {{"reason", removed.error().full()}});
}

}  // namespace noid::vm
