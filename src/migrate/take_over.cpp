#include "migrate/take_over.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <ctime>
#include <map>
#include <set>
#include <utility>

#include "base/file.hpp"
#include "base/units.hpp"
#include "store/user_database.hpp"
#include "vm/snapshot.hpp"
#include "vm/token.hpp"
#include "vm/types.hpp"
#include "volume/volume.hpp"

namespace noid::migrate {

namespace fs = std::filesystem;
using Kind = Outcome::Kind;

namespace {

constexpr const char* shared_disk_name = "rootfs.ext4";
constexpr std::size_t longest_label = 256;

bool is_hex(std::string_view text) {
    return text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

// Ids become names of directories.
bool is_user_id(std::string_view text) {
    return text.size() == 36 && text.find_first_not_of("0123456789abcdefABCDEF-") == std::string_view::npos;
}

// Microseconds since the epoch; 0 for what is no such time.
std::int64_t microseconds_of(const std::string& utc) {
    std::tm broken{};
    if (::strptime(utc.c_str(), "%Y-%m-%d %H:%M:%S", &broken) == nullptr) return 0;
    return static_cast<std::int64_t>(::timegm(&broken)) * 1'000'000;
}

// Clones a disk and fills it up to whole MiB, which is how we count. What is at `to` must not exist.
Result<MiB> take_disk(const volume::Volume& volume, const fs::path& from, const fs::path& to) {
    const auto source = open_directory(from.parent_path());
    if (!source) return fail(source.error());
    const auto disk = open_file_at(*source, from.filename(), O_RDONLY | O_NOFOLLOW);
    if (!disk) return fail(disk.error());
    struct stat status {};
    if (::fstat(disk->get(), &status) != 0) return fail_errno(errno, from.string());
    if (!S_ISREG(status.st_mode) || status.st_size == 0)
        return fail(Errc::corrupt, fmt::format("{} is empty or no file", from.string()));
    const auto target = open_directory(to.parent_path());
    if (!target) return fail(target.error());
    if (auto cloned = volume.clone({*source, from.filename()}, {*target, to.filename()}); !cloned)
        return fail(std::move(cloned.error()));
    const auto copy = open_file_at(*target, to.filename(), O_RDWR);
    if (!copy) return fail(copy.error());
    const auto bytes = static_cast<std::uint64_t>(status.st_size);
    const MiB size{(bytes + MiB{1}.bytes() - 1) / MiB{1}.bytes()};
    if (size.bytes() != bytes) {
        if (auto grown = volume::grow(*copy, size); !grown) return fail(std::move(grown.error()));
    }
    // The copy is ours, whoever might read the original's.
    if (::fchmod(copy->get(), 0600) != 0) return fail_errno(errno, to.string());
    if (auto synced = sync_data(*copy); !synced) return fail(std::move(synced.error()));
    return size;
}

class Taking {
  public:
    Taking(const Original& original, const vm::DataDirectory& to, store::UserDatabase& users,
           const volume::Volume& volume)
        : original_{original}, to_{to}, users_{users}, volume_{volume} {}

    Result<std::vector<Outcome>> run() {
        auto present = users_.users();
        if (!present) return fail(std::move(present.error()));
        for (auto& user : *present) present_.emplace(user.name, std::move(user));
        for (const auto& user : original_.users) take(user);
        for (const auto& checkpoint : original_.checkpoints) take(checkpoint);
        for (const auto& vm : original_.vms) {
            note(Kind::left, fmt::format("VM '{}' of {}", vm.name, name_of(vm.user_id)),
                 "running VMs stay with the original: save it there (noid checkpoint), and migrate again");
        }
        take_golden();
        return std::move(outcomes_);
    }

  private:
    void note(Kind kind, std::string what, std::string why = {}) {
        outcomes_.push_back({kind, std::move(what), std::move(why)});
    }

    [[nodiscard]] std::string name_of(const std::string& user_id) const {
        const auto user = std::ranges::find(original_.users, user_id, &store::UserRow::id);
        return user == original_.users.end() ? "nobody" : fmt::format("'{}'", user->name);
    }

    void take(const store::UserRow& user) {
        const auto what = fmt::format("user '{}'", user.name);
        if (const auto same = present_.find(user.name); same != present_.end()) {
            if (same->second.id != user.id) {
                note(Kind::left, what,
                     "this server has another user of that name: delete that one, and migrate again");
                return;
            }
            taken_.insert(user.id);
            note(Kind::there_already, what);
            return;
        }
        if (!vm::is_valid_user_name(user.name) || !is_user_id(user.id)) {
            note(Kind::left, what, "no user of this server can have that name or id");
            return;
        }
        if (user.token_hash.size() != 64 || !is_hex(user.token_hash)) {
            note(Kind::left, what, "what is stored of the token is no SHA-256: create the user anew");
            return;
        }
        auto taken = to_.tenant(user.id).create();
        if (taken) taken = users_.take_over(user);
        if (!taken) {
            note(Kind::left, what, taken.error().full());
            return;
        }
        taken_.insert(user.id);
        note(Kind::taken, what);
    }

    void take(const OriginalCheckpoint& checkpoint) {
        const auto what = fmt::format("disk of checkpoint '{}' of VM '{}' of {}", checkpoint.id,
                                      checkpoint.vm_name, name_of(checkpoint.user_id));
        if (!taken_.contains(checkpoint.user_id)) {
            note(Kind::left, what, "its user was not taken");
            return;
        }
        if (checkpoint.id.size() != 16 || !is_hex(checkpoint.id) || !vm::VmName::parse(checkpoint.vm_name)) {
            note(Kind::left, what, "no checkpoint of this server can have that id or VM");
            return;
        }
        const fs::path place =
            to_.tenant(checkpoint.user_id).checkpoints() / checkpoint.vm_name / checkpoint.id;
        std::error_code unreadable;
        if (fs::exists(place, unreadable)) {
            note(Kind::there_already, what);
            return;
        }
        if (original_.storage_is_away) {
            note(Kind::left, what, "the original's storage.img is not mounted: mount it, and migrate again");
            return;
        }
        if (auto taken = take_into(checkpoint, place); !taken) {
            note(Kind::left, what, taken.error().full());
            return;
        }
        note(Kind::taken, what);
    }

    Result<void> take_into(const OriginalCheckpoint& checkpoint, const fs::path& place) {
        const fs::path all = to_.tenant(checkpoint.user_id).checkpoints();
        if (auto removed = vm::remove_tree(vm::SnapshotDraft::place(all, checkpoint.id)); !removed)
            return removed;
        auto draft = vm::SnapshotDraft::create(all, checkpoint.id);
        if (!draft) return fail(std::move(draft.error()));
        const auto size =
            take_disk(volume_, checkpoint.directory / shared_disk_name, draft->directory() / vm::disk_file);
        if (!size) return fail(size.error());
        vm::SnapshotConfig config;
        config.id = checkpoint.id;
        config.vm_name = checkpoint.vm_name;
        config.label = checkpoint.label.substr(0, longest_label);
        config.has_memory = false;
        config.cpus = checkpoint.cpus;
        config.memory = MiB{checkpoint.mem_mib};
        config.disk = *size;
        config.created_us = microseconds_of(checkpoint.created_at);
        return draft->publish(config, place);
    }

    // An image, because golden needs a saved memory that wakes here.
    void take_golden() {
        if (!original_.golden) return;
        const auto what = fmt::format("golden's disk, as image '{}'", golden_image);
        const fs::path image = to_.images() / fmt::format("{}.ext4", golden_image);
        std::error_code unreadable;
        if (fs::exists(image, unreadable)) {
            note(Kind::there_already, what);
            return;
        }
        const fs::path draft = to_.images() / fmt::format(".{}.new", golden_image);
        auto taken = vm::remove_tree(draft);
        if (taken) {
            if (auto size = take_disk(volume_, original_.golden->disk, draft); !size)
                taken = fail(std::move(size.error()));
        }
        if (taken && ::rename(draft.c_str(), image.c_str()) != 0) taken = fail_errno(errno, image.string());
        if (!taken) {
            ::unlink(draft.c_str());
            note(Kind::left, what, taken.error().full());
            return;
        }
        note(Kind::taken, what);
    }

    const Original& original_;
    const vm::DataDirectory& to_;
    store::UserDatabase& users_;
    const volume::Volume& volume_;
    std::map<std::string, store::UserRow> present_;  // by name
    std::set<std::string> taken_;                    // ids of users that are here now
    std::vector<Outcome> outcomes_;
};

}  // namespace

Result<std::vector<Outcome>> take_over(const Original& original, const vm::DataDirectory& to) {
    auto users = store::UserDatabase::open(to.database());
    if (!users) return fail(std::move(users.error()));
    const auto directory = open_directory(to.users());
    if (!directory) return fail(directory.error());
    auto volume = volume::probe(*directory);
    if (!volume) return fail(std::move(volume.error()));
    return Taking{original, to, **users, **volume}.run();
}

}  // namespace noid::migrate
