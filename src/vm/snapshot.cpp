#include "vm/snapshot.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <boost/json/serialize.hpp>
#include <boost/json/value_from.hpp>
#include <cerrno>
#include <utility>

#include "base/file.hpp"
#include "base/log.hpp"
#include "vm/data_directory.hpp"
#include "vm/vm_record.hpp"
#include "wire/json.hpp"

namespace noid::vm {

namespace fs = std::filesystem;
namespace json = boost::json;

namespace {

constexpr std::int64_t snapshot_format = 1;
constexpr std::size_t largest_config = 8 << 20;

// Brings it to the disk, and lets every VM read it that is given a link to it: the directories above are
// the server's alone.
Result<void> complete_file_at(const Fd& directory, const std::string& name) {
    const auto file = open_file_at(directory, name, O_RDONLY);
    if (!file) return fail(file.error());
    if (::fchmod(file->get(), 0444) != 0) return fail_errno(errno, "set the mode of " + name);
    return sync_data(*file);
}

// `name` of one directory in another: the same file where that is possible, which costs neither time nor
// space and shares its page cache.
Result<void> link_or_clone(const volume::Volume& volume, const Fd& from, const Fd& to,
                           const std::string& name) {
    if (::linkat(from.get(), name.c_str(), to.get(), name.c_str(), 0) == 0) return {};
    if (errno != EXDEV && errno != EMLINK && errno != EPERM) return fail_errno(errno, "cannot link " + name);
    return volume.clone({from, name}, {to, name});
}

}  // namespace

Result<void> clone_file(const volume::Volume& volume, const fs::path& from, const fs::path& to) {
    const auto source = open_directory(from.parent_path());
    if (!source) return fail(source.error());
    const auto target = open_directory(to.parent_path());
    if (!target) return fail(target.error());
    return volume.clone({*source, from.filename().string()}, {*target, to.filename().string()});
}

std::string SnapshotConfig::to_json() const {
    json::object object;
    object["format"] = snapshot_format;
    object["id"] = id;
    object["vm_id"] = vm_id;
    object["vm_name"] = vm_name;
    object["name"] = name;
    object["label"] = label;
    object["parent"] = parent;
    object["automatic"] = automatic;
    object["has_memory"] = has_memory;
    object["has_network"] = has_network;
    object["cpus"] = cpus;
    object["mem_mib"] = memory.count;
    object["disk_mib"] = disk.count;
    object["image"] = image;
    object["network"] = network_settings_to_file(network);
    put_resources(object, resources);
    object["layout"] = layout;
    object["env"] = json::value_from(env);
    object["vmm"] = vmm;
    object["vmm_version"] = vmm_version;
    object["accelerator"] = accelerator;
    object["cpu_fingerprint"] = cpu_fingerprint;
    object["agent_version"] = agent_version;
    object["created_us"] = created_us;
    object["memory_bytes_written"] = memory_bytes_written;
    object["paused_us"] = static_cast<std::int64_t>(paused.count());
    object["sha256"] = json::value_from(sha256);
    if (!sources.empty()) object["sources"] = json::value_from(sources);
    return json::serialize(object);
}

Result<SnapshotConfig> SnapshotConfig::from_json(std::string_view text) {
    auto value = wire::parse_json(text);
    if (!value) return fail(Errc::corrupt, "config.json: " + value.error().what);
    SnapshotConfig config;
    std::int64_t format = 0;
    std::int64_t paused_us = 0;
    wire::FieldReader fields{*value};
    fields.required("format", format);
    fields.required("id", config.id);
    fields.required("vm_id", config.vm_id);
    fields.required("vm_name", config.vm_name);
    fields.optional("name", config.name);
    fields.optional("label", config.label);
    fields.optional("parent", config.parent);
    fields.optional("automatic", config.automatic);
    fields.required("has_memory", config.has_memory);
    fields.required("has_network", config.has_network);
    fields.required("cpus", config.cpus);
    fields.required("mem_mib", config.memory.count);
    fields.required("disk_mib", config.disk.count);
    fields.optional("image", config.image);
    fields.optional("layout", config.layout);
    fields.optional("env", config.env);
    fields.required("vmm", config.vmm);
    fields.required("vmm_version", config.vmm_version);
    fields.optional("accelerator", config.accelerator);
    fields.required("cpu_fingerprint", config.cpu_fingerprint);
    fields.optional("agent_version", config.agent_version);
    fields.required("created_us", config.created_us);
    fields.optional("memory_bytes_written", config.memory_bytes_written);
    fields.optional("paused_us", paused_us);
    fields.optional("sha256", config.sha256);
    fields.optional("sources", config.sources);
    if (auto read = fields.done(); !read) return fail(Errc::corrupt, "config.json: " + read.error().what);
    if (format != snapshot_format)
        return fail(Errc::unsupported, fmt::format("config.json: format {} is not known here", format));
    if (const json::value* network = fields.find("network")) {
        auto settings = network_settings_from_file(*network);
        if (!settings) return fail(std::move(settings.error()).at("config.json"));
        config.network = std::move(*settings);
    }
    auto resources = read_resources(*value);
    if (!resources) return fail(std::move(resources.error()).at("config.json"));
    config.resources = *resources;
    config.paused = std::chrono::microseconds{paused_us};
    return config;
}

std::vector<const char*> SnapshotConfig::files() const {
    if (!has_memory) return {disk_file};
    return {disk_file, memory_file, state_file};
}

bool SnapshotConfig::has_all_hashes() const {
    return std::ranges::all_of(files(), [this](const char* file) { return sha256.contains(file); });
}

void SnapshotConfig::set_vmm(const vmm::Description& description) {
    vmm = vmm::name_of(description.kind);
    vmm_version = description.version;
    accelerator = description.accelerator;
    cpu_fingerprint = description.cpu_fingerprint;
}

std::string SnapshotConfig::obstacle(const vmm::Description& description) const {
    if (!has_memory) return {};  // its disk boots anywhere
    const auto kind = vmm::name_of(description.kind);
    if (vmm != kind) return fmt::format("it was saved by {}, and this server runs {}", vmm, kind);
    if (vmm_version != description.version) {
        return fmt::format("it was saved by {} {}, and this server runs {}", vmm, vmm_version,
                           description.version);
    }
    if (accelerator != description.accelerator)
        return fmt::format("it was saved under {}, and this server runs {}", accelerator,
                           description.accelerator);
    if (layout > vmm::newest_layout)
        return fmt::format("its machine has devices (layout {}) that this server does not know", layout);
    if (cpu_fingerprint != description.cpu_fingerprint) return "it was saved on another kind of CPU";
    return {};
}

CheckpointView SnapshotConfig::view() const {
    CheckpointView view;
    view.id = id;
    view.vm_name = vm_name;
    view.name = name;
    view.label = label;
    view.parent = parent;
    view.automatic = automatic;
    view.has_memory = has_memory;
    view.created_unix = created_us / 1'000'000;
    view.created_at = utc_text(view.created_unix);
    view.cpus = cpus;
    view.memory = memory;
    view.disk = disk;
    view.logical_bytes = disk.bytes() + (has_memory ? memory.bytes() : 0);
    view.written_bytes = memory_bytes_written;
    view.paused = paused;
    view.vmm = vmm + " " + vmm_version;
    return view;
}

namespace {

Result<SnapshotConfig> read_snapshot_in(const Fd& directory) {
    auto text = read_file_at(directory, config_file, largest_config);
    if (!text) return fail(std::move(text.error()));
    auto config = SnapshotConfig::from_json(*text);
    if (!config) return config;
    for (const char* name : config->files()) {
        struct stat status {};
        if (::fstatat(directory.get(), name, &status, 0) != 0 || status.st_size == 0)
            return fail(Errc::corrupt, fmt::format("{} is missing or empty", name));
    }
    return config;
}

}  // namespace

Result<SnapshotConfig> read_snapshot(const fs::path& directory) {
    const auto opened = open_directory(directory);
    if (!opened) return fail(opened.error());
    return read_snapshot_in(*opened);
}

Result<void> write_snapshot_config(const fs::path& directory, const SnapshotConfig& config) {
    const auto opened = open_directory(directory);
    if (!opened) return fail(opened.error());
    return replace_file_at(*opened, config_file, config.to_json());
}

Result<void> unfold_snapshot(const volume::Volume& volume, const fs::path& from, const fs::path& to,
                             std::string_view id) {
    // By one descriptor: another snapshot may take the name meanwhile.
    const auto source = open_directory(from);
    if (!source) return fail(source.error());
    const auto config = read_snapshot_in(*source);
    if (!config) return fail(config.error());
    if (!id.empty() && config->id != id)
        return fail(Errc::not_found, "the snapshot has been replaced by another one");
    const auto target = open_directory(to);
    if (!target) return fail(target.error());
    if (auto cloned = volume.clone({*source, disk_file}, {*target, disk_file}); !cloned) return cloned;
    if (!config->has_memory) return {};
    for (const char* name : {memory_file, state_file}) {
        if (auto linked = link_or_clone(volume, *source, *target, name); !linked) return linked;
    }
    // Small, and the snapshot's own may be rewritten: a copy.
    const auto copy = open_file_at(*target, config_file, O_WRONLY | O_CREAT | O_EXCL);
    if (!copy) return fail(copy.error());
    return write_all(*copy, config->to_json());
}

Result<std::uint64_t> exclusive_bytes(const fs::path& directory) {
    const auto opened = open_directory(directory);
    if (!opened) return fail(opened.error());
    auto names = names_in(directory);
    if (!names) return fail(std::move(names.error()));
    std::uint64_t bytes = 0;
    for (const std::string& name : *names) {
        const auto file = open_file_at(*opened, name, O_RDONLY | O_NOFOLLOW);
        struct stat status {};
        if (!file || ::fstat(file->get(), &status) != 0) continue;  // on its way out
        if (status.st_nlink > 1) continue;                          // a VM runs on it and keeps it
        const auto space = volume::space_of(*file);
        if (!space) return fail(space.error());
        bytes += space->exclusive;
    }
    return bytes;
}

fs::path SnapshotDraft::place(const fs::path& parent, std::string_view id) {
    return parent / fmt::format(".new-{}", id);
}

Result<SnapshotDraft> SnapshotDraft::create(const fs::path& parent, std::string_view id) {
    fs::path directory = place(parent, id);
    if (::mkdir(directory.c_str(), 0700) != 0) return fail_errno(errno, "create the snapshot's directory");
    return SnapshotDraft{std::move(directory)};
}

SnapshotDraft::SnapshotDraft(SnapshotDraft&& other) noexcept
    : directory_{std::exchange(other.directory_, {})} {}

SnapshotDraft::~SnapshotDraft() {
    if (directory_.empty()) return;
    if (auto removed = remove_tree(directory_); !removed)
        log::warn("unfinished snapshot is left behind", {{"reason", removed.error().full()}});
}

Result<void> SnapshotDraft::publish(const SnapshotConfig& config, const fs::path& target) {
    const auto directory = open_directory(directory_);
    if (!directory) return fail(directory.error());
    if (auto written = replace_file_at(*directory, config_file, config.to_json()); !written) return written;
    for (const char* name : config.files()) {
        if (auto synced = complete_file_at(*directory, name); !synced) return synced;
    }
    if (auto synced = sync_directory(*directory); !synced) return synced;

    const fs::path parent = target.parent_path();
    if (::mkdir(parent.c_str(), 0700) != 0 && errno != EEXIST)
        return fail_errno(errno, "create the directory of checkpoints");
    if (::rename(directory_.c_str(), target.c_str()) != 0) return fail_errno(errno, "publish the snapshot");
    directory_.clear();
    const auto opened = open_directory(parent);
    if (!opened) return fail(opened.error());
    return sync_directory(*opened);
}

}  // namespace noid::vm
