#include "vm/fsck.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <optional>
#include <set>

#include "store/tenant_database.hpp"
#include "store/user_database.hpp"
#include "vm/data_directory.hpp"
#include "vm/golden.hpp"
#include "vm/sha256.hpp"
#include "vm/snapshot.hpp"
#include "vm/stray_processes.hpp"
#include "vm/vm_record.hpp"

namespace noid::vm {

namespace fs = std::filesystem;

namespace {

class Examination {
  public:
    Examination(DataDirectory directory, vmm::Warden& warden, WorkingDirectories running, FsckMode mode)
        : directory_{std::move(directory)}, warden_{warden}, mode_{mode}, running_{std::move(running)} {}

    Result<std::vector<Finding>> run() {
        auto users = store::UserDatabase::open(directory_.database());
        if (!users) return fail(std::move(users.error()));
        auto rows = (*users)->users();
        if (!rows) return fail(std::move(rows.error()));
        auto deletions = (*users)->deletions();
        if (!deletions) return fail(std::move(deletions.error()));
        std::set<std::string> known{deletions->begin(), deletions->end()};
        for (const store::UserRow& row : *rows) {
            known.insert(row.id);
            examine_user(directory_.tenant(row.id));
        }
        for (const std::string& id : entries(directory_.users())) {
            if (!known.contains(id)) report(directory_.users() / id, "belongs to no user");
        }
        examine_templates();
        examine_golden();
        for (const std::string& id : entries(directory_.warm()))
            remains(directory_.warm() / id, "a VM that a server kept ready");
        return std::move(findings_);
    }

  private:
    void report(const fs::path& place, std::string what, std::string done = {}) {
        findings_.push_back(
            {place.lexically_relative(directory_.path()).string(), std::move(what), std::move(done)});
    }
    [[nodiscard]] bool repairs() const noexcept { return mode_ == FsckMode::repair; }

    std::vector<std::string> entries(const fs::path& directory) {
        auto names = names_in(directory);
        if (!names) report(directory, names.error().what);
        if (!names) return {};
        std::ranges::sort(*names);
        return std::move(*names);
    }

    // Something that no operation is busy with any more, for no server runs.
    void remains(const fs::path& place, std::string_view what) {
        if (!running_.in(place).empty()) {
            report(place,
                   fmt::format("{}, but a process works in it; the next start of the server ends it", what));
            return;
        }
        if (!repairs()) return report(place, std::string{what});
        const auto removed = remove_tree(place, warden_);
        report(place, std::string{what}, removed ? "removed" : "cannot be removed: " + removed.error().what);
    }

    void examine_user(const TenantPaths& paths) {
        std::error_code ignored;
        if (!fs::is_directory(paths.directory(), ignored)) {
            report(paths.directory(), "the user's directory is missing; the next start makes it anew");
            return;
        }
        auto database = store::TenantDatabase::open(paths.database());
        if (!database) return report(paths.database(), database.error().full());
        auto rows = (*database)->vms();
        auto intents = (*database)->intents();
        if (!rows) return report(paths.database(), rows.error().full());
        if (!intents) return report(paths.database(), intents.error().full());
        for (const store::Intent& intent : *intents) {
            report(paths.database(),
                   fmt::format("a {} of VM '{}' was interrupted; the next start deals with it",
                               intent.operation, intent.vm_name));
        }
        // What the journal speaks of is not examined: it is between two states.
        if (!intents->empty()) return examine_checkpoints(paths);
        std::set<std::string> known;
        for (const store::VmRow& row : *rows) {
            known.insert(row.name);
            examine_vm(paths, row);
        }
        for (const std::string& name : entries(paths.vms())) {
            const fs::path place = paths.vms() / name;
            if (known.contains(name)) continue;
            if (!name.starts_with('.') && read_record(place)) {
                report(place, "a VM that the database does not know; the next start enters it");
            } else {
                remains(place, "what is left of a VM");
            }
        }
        examine_checkpoints(paths);
    }

    void examine_vm(const TenantPaths& paths, const store::VmRow& row) {
        const fs::path place = paths.vms() / row.name;
        const auto record = read_record(place);
        if (!record) return report(place, record.error().what);
        if (record->id != row.id) report(place, "its vm.json is of another VM");
        struct stat status {};
        if (::stat((place / disk_file).c_str(), &status) != 0 ||
            static_cast<std::uint64_t>(status.st_size) != record->disk.bytes()) {
            report(place / disk_file, "the disk is missing or has the wrong size");
        }
        if (row.runtime.state == name_of(State::suspended)) {
            if (auto saved = read_snapshot(place); !saved)
                report(place, "the memory of the suspended VM: " + saved.error().what);
            return;
        }
        for (const std::string& name : entries(place)) {
            if (name.starts_with("saving.")) remains(place / name, "what is left of a save");
        }
    }

    void examine_checkpoints(const TenantPaths& paths) {
        for (const std::string& vm : entries(paths.checkpoints())) {
            const fs::path of_vm = paths.checkpoints() / vm;
            if (vm.starts_with('.')) {
                remains(of_vm, "what is left of a checkpoint");
                continue;
            }
            for (const std::string& id : entries(of_vm)) {
                const fs::path place = of_vm / id;
                if (auto sound = examine_snapshot(place, id); !sound) set_aside(place, sound.error().what);
            }
        }
    }

    // Files there, of the right size, and what their hashes say.
    Result<void> examine_snapshot(const fs::path& place, const std::string& id) {
        auto config = read_snapshot(place);
        if (!config) return fail(std::move(config.error()));
        if (config->id != id) return fail(Errc::corrupt, "config.json names another checkpoint");
        struct stat status {};
        if (::stat((place / disk_file).c_str(), &status) != 0 ||
            static_cast<std::uint64_t>(status.st_size) != config->disk.bytes())
            return fail(Errc::corrupt, "the disk has the wrong size");
        if (config->has_memory && (::stat((place / memory_file).c_str(), &status) != 0 ||
                                   static_cast<std::uint64_t>(status.st_size) != config->memory.bytes()))
            return fail(Errc::corrupt, "the memory has the wrong size");
        bool added = false;
        for (const char* name : config->files()) {
            const auto expected = config->sha256.find(name);
            if (expected == config->sha256.end() && !repairs()) continue;
            auto hash = content_hash(place / name);
            if (!hash) return fail(std::move(hash.error()));
            if (expected == config->sha256.end()) {
                config->sha256[name] = *hash;
                added = true;
            } else if (expected->second != *hash) {
                return fail(Errc::corrupt, fmt::format("{} is damaged: its hash is wrong", name));
            }
        }
        if (added) return write_snapshot_config(place, *config);
        return {};
    }

    void set_aside(const fs::path& place, const std::string& what) {
        if (!repairs()) return report(place, what);
        const fs::path shelter = directory_.storage() / "lost+found";
        std::string name = place.lexically_relative(directory_.users()).string();
        std::ranges::replace(name, '/', '_');
        if (::mkdir(shelter.c_str(), 0700) != 0 && errno != EEXIST)
            return report(place, what, "cannot be set aside");
        const bool moved = ::rename(place.c_str(), (shelter / name).c_str()) == 0;
        report(place, what, moved ? "moved to lost+found/" + name : "cannot be set aside");
    }

    void examine_templates() {
        for (const std::string& name : entries(directory_.templates())) {
            const fs::path place = directory_.templates() / name;
            if (name.starts_with('.')) {
                remains(place, "what is left of a template");
            } else if (auto config = read_snapshot(place); !config) {
                remains(place, "a damaged template: " + config.error().what);
            }
        }
    }

    void examine_golden() {
        auto config = read_snapshot(directory_.golden());
        if (!config && config.error().code != Errc::not_found)
            report(directory_.golden(), config.error().what + "; creates boot instead");
        std::vector<fs::path> left = Golden::remains(directory_.storage());
        std::error_code ignored;
        std::erase_if(left, [&](const fs::path& place) { return !fs::exists(place, ignored); });
        if (left.empty()) return;
        std::string done;
        if (repairs()) {
            // It finishes a change, or takes it back.
            const auto golden = Golden::open(directory_.path());
            done = golden ? "finished or taken back" : "cannot be put right: " + golden.error().full();
        }
        for (const fs::path& place : left) report(place, "what is left of a change of golden", done);
    }

    DataDirectory directory_;
    vmm::Warden& warden_;
    FsckMode mode_;
    WorkingDirectories running_;
    std::vector<Finding> findings_;
};

}  // namespace

Result<std::vector<Finding>> fsck(const fs::path& data_dir, vmm::Warden& warden, FsckMode mode) {
    auto directory = DataDirectory::open(data_dir);
    if (!directory) return fail(std::move(directory.error()));
    auto running = WorkingDirectories::scan(warden);
    if (!running) return fail(std::move(running.error()));
    return Examination{std::move(*directory), warden, std::move(*running), mode}.run();
}

}  // namespace noid::vm
