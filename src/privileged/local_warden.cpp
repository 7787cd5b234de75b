#include "privileged/local_warden.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <linux/openat2.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <iterator>
#include <type_traits>
#include <utility>

#include "base/file.hpp"
#include "firecracker/jail.hpp"
#include "firecracker/kvm_trial.hpp"
#include "firecracker/metrics.hpp"
#include "firecracker/process_spec.hpp"
#include "firecracker/stdio_fifos.hpp"
#include "launcher/captured_output.hpp"
#include "privileged/reclaim.hpp"
#include "qemu/jail.hpp"
#include "qemu/process_spec.hpp"
#include "vmm/directory_access.hpp"
#include "vmm/userfaultfd.hpp"

namespace noid::privileged {

namespace fs = std::filesystem;

namespace {

constexpr std::uint64_t no_links = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;

Result<Fd> open_carefully(int start, const fs::path& path, std::uint64_t flags, std::uint64_t resolve) {
    open_how how{};
    how.flags = flags | O_CLOEXEC;
    how.resolve = resolve;
    Fd file{static_cast<int>(::syscall(SYS_openat2, start, path.c_str(), &how, sizeof how))};
    if (!file) return fail_errno(errno, "cannot open " + path.filename().string());
    return file;
}

// Sets the group and mode of what belongs to `owner`, and of nothing else.
Result<void> open_to_group(const Fd& directory, const std::string& name, uid_t owner, gid_t group) {
    const auto file = open_file_at(directory, name, O_PATH | O_NOFOLLOW);
    if (!file) return fail(file.error());
    struct stat status {};
    if (::fstat(file->get(), &status) != 0) return fail_errno(errno, "cannot look at " + name);
    if (!S_ISREG(status.st_mode) && !S_ISFIFO(status.st_mode))
        return fail(Errc::corrupt, name + " is not what it should be");
    if (status.st_uid != owner || status.st_nlink != 1)
        return fail(Errc::forbidden, name + " is not the VM's alone");
    // chown and chmod take no O_PATH descriptors but through their names in /proc.
    const auto path = "/proc/self/fd/" + std::to_string(file->get());
    if (::chown(path.c_str(), static_cast<uid_t>(-1), group) != 0 || ::chmod(path.c_str(), 0660) != 0)
        return fail_errno(errno, "cannot set who may use " + name);
    return {};
}

// One that noid-netd keeps: a mount of a network namespace under the name noid<number>.
Result<Fd> open_network_namespace(const fs::path& path) {
    const auto name = path.filename().string();
    const bool is_slot = name.starts_with("noid") && name.size() > 4 &&
                         name.find_first_not_of("0123456789", 4) == std::string::npos;
    if (!path.is_absolute() || !is_slot) return fail(Errc::invalid, "not the name of a network slot");
    auto file = open_carefully(AT_FDCWD, path, O_RDONLY, no_links);
    if (!file) return file;
    struct statfs kind {};
    if (::fstatfs(file->get(), &kind) != 0 || kind.f_type != NSFS_MAGIC ||
        ::ioctl(file->get(), NS_GET_NSTYPE) != CLONE_NEWNET)
        return fail(Errc::invalid, name + " is no network namespace");
    return file;
}

// Names, under `root`, what has been opened.
std::string name_of(const Fd& file) {
    return "/proc/self/fd/" + std::to_string(file.get());
}

std::string in_proc(pid_t pid, std::string_view name) {
    return "/proc/" + std::to_string(pid) + "/" + std::string{name};
}

// Bytes that a process has written to files and pipes since it started; 0 if that may not be known.
std::uint64_t bytes_written(pid_t pid) {
    const auto text = read_file(in_proc(pid, "io"), 4096);
    constexpr std::string_view key = "wchar: ";
    const auto at = text ? text->find(key) : std::string::npos;
    if (at == std::string::npos) return 0;
    std::uint64_t count = 0;
    std::from_chars(text->data() + at + key.size(), text->data() + text->size(), count);
    return count;
}

// Also when nobody has reaped it yet: then it works in no directory any more.
bool has_ended(const Fd& pidfd) {
    pollfd end{pidfd.get(), POLLIN, 0};
    return ::poll(&end, 1, 0) == 1;
}

// The process may have put anything at that number.
Fd userfaultfd_of(pid_t pid) {
    const Fd process{static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))};
    Fd file{static_cast<int>(::syscall(SYS_pidfd_getfd, process.get(), vmm::userfaultfd_number, 0))};
    if (!file) return {};
    std::error_code gone;
    if (fs::read_symlink(name_of(file), gone) != "anon_inode:[userfaultfd]") return {};
    return file;
}

vmm::HostDevices try_devices() {
    vmm::HostDevices devices;
    devices.kvm = firecracker::try_kvm();
    devices.vhost_net = ::access("/dev/vhost-net", R_OK | W_OK) == 0;
    return devices;
}

bool same_file(const struct stat& one, const struct stat& other) {
    return one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

// How much is removed at once: other requests wait as long.
constexpr std::size_t most_reclaimed = 256;

// No file that a VMM writes is larger than this: its disk, or a snapshot of its memory. The rest is for the
// state of its devices.
rlim_t largest_file(const vmm::MachineSpec& spec, const struct stat& disk) {
    constexpr rlim_t slack = 64 << 20;
    return spec.memory.bytes() + static_cast<rlim_t>(disk.st_size) + slack;
}

}  // namespace

struct LocalWarden::Held {
    launcher::UserPool::Lease user;
    std::optional<launcher::Cgroup> cgroup;  // none: not limited
    struct stat directory {};
};

Result<std::unique_ptr<LocalWarden>> LocalWarden::open(Options options) {
    Fd data_dir;
    if (options.users) {
        auto directory = open_directory(options.data_dir);
        if (directory) data_dir = std::move(*directory);
        if (!directory && directory.error().code != Errc::not_found)
            return fail(std::move(directory.error()));
    }
    return std::unique_ptr<LocalWarden>{new LocalWarden{std::move(options), std::move(data_dir)}};
}

LocalWarden::LocalWarden(Options options, Fd data_dir)
    : options_{std::move(options)}, devices_{try_devices()}, data_dir_{std::move(data_dir)} {
    if (options_.users) users_.emplace(*options_.users);
}

Result<Fd> LocalWarden::open_vm_directory(const fs::path& path) const {
    const auto below = path.lexically_relative(options_.data_dir);
    if (below.empty() || below == "." || *below.begin() == "..")
        return fail(Errc::forbidden, "the VM's directory is not in the data directory");
    return open_carefully(data_dir_.get(), below, O_RDONLY | O_DIRECTORY, RESOLVE_BENEATH | no_links);
}

Result<struct stat> LocalWarden::look_at_servers(const Fd& directory) const {
    struct stat status {};
    if (::fstat(directory.get(), &status) != 0) return fail_errno(errno, "cannot look at the VM's directory");
    if (status.st_uid != options_.server.user)
        return fail(Errc::forbidden, "the VM's directory is not the server's");
    return status;
}

Result<struct stat> LocalWarden::hand_over(const Fd& directory, const vmm::ProcessRequest& request,
                                           gid_t group) const {
    const auto status = look_at_servers(directory);
    if (!status) return status;
    std::vector<std::string> names{request.spec.rootfs};
    auto makes = vmm::Makes::nothing;
    if (std::holds_alternative<vmm::FirecrackerStart>(request.program)) {
        makes = vmm::Makes::files;  // its sockets
        names.insert(names.end(), {firecracker::input_fifo, firecracker::output_fifo, firecracker::log_fifo,
                                   firecracker::metrics_fifo});
    }
    if (auto done = vmm::let_in(directory, group, makes); !done) return fail(std::move(done.error()));
    for (const auto& name : names) {
        if (auto done = open_to_group(directory, name, options_.server.user, group); !done)
            return fail(std::move(done.error()));
    }
    return status;
}

Result<launcher::ProcessSpec> LocalWarden::specify(const vmm::ProcessRequest& request,
                                                   const std::optional<launcher::Credentials>& user) const {
    const bool is_firecracker = std::holds_alternative<vmm::FirecrackerStart>(request.program) ||
                                std::holds_alternative<vmm::FirecrackerVersion>(request.program);
    const auto program =
        launcher::find_program((is_firecracker ? options_.firecracker : options_.qemu).string());
    if (!program) return fail(program.error());
    const auto visit = [&](const auto& start) -> Result<launcher::ProcessSpec> {
        using Start = std::remove_cvref_t<decltype(start)>;
        if constexpr (std::is_same_v<Start, vmm::QemuStart>)
            return qemu::process_spec(*program, request.spec, start, user);
        else if constexpr (std::is_same_v<Start, vmm::QemuVersion>)
            return qemu::version_spec(*program, user);
        else if constexpr (std::is_same_v<Start, vmm::QemuTrial>)
            return qemu::trial_spec(*program, user);
        else if constexpr (std::is_same_v<Start, vmm::FirecrackerStart>)
            return firecracker::process_spec(*program, request.spec, user);
        else
            return firecracker::version_spec(*program, user);
    };
    return std::visit(visit, request.program);
}

Result<launcher::Launched> LocalWarden::start(vmm::ProcessRequest request) {
    launcher::UserPool::Lease user;
    if (users_) {
        auto lease = users_->take();
        if (!lease) return fail(std::move(lease.error()));
        user = std::move(*lease);
    }
    auto process = specify(request, user ? std::optional{*user} : std::nullopt);
    if (!process) return fail(std::move(process.error()));
    std::ranges::move(request.descriptors, std::back_inserter(process->descriptors));
    request.descriptors.clear();
    if (user && vmm::runs_a_vm(request))
        return start_in_directory(std::move(*process), request, std::move(user));
    auto launched = launcher::launch(*process);
    if (launched) launched->held = std::move(user);
    return launched;
}

void LocalWarden::get_ready() {
    const std::scoped_lock lock{ready_mutex_};
    if (!users_ || ready_) return;
    // Without them the next start makes its own, and says what hinders it.
    if (auto made = launcher::ReadyNamespaces::make()) ready_ = std::move(*made);
}

Result<launcher::Launched> LocalWarden::start_in_directory(launcher::ProcessSpec process,
                                                           const vmm::ProcessRequest& request,
                                                           launcher::UserPool::Lease user) {
    auto directory = open_vm_directory(request.spec.directory);
    if (!directory) return fail(std::move(directory.error()));
    const auto place = hand_over(*directory, request, user->group);
    if (!place) return fail(place.error());
    struct stat disk {};
    if (::fstatat(directory->get(), request.spec.rootfs.c_str(), &disk, AT_SYMLINK_NOFOLLOW) != 0)
        return fail_errno(errno, "cannot look at the VM's disk");
    process.limits.push_back({RLIMIT_FSIZE, largest_file(request.spec, disk)});
    // What was looked at is what appears in there, whatever the path leads to by then.
    auto& root = *process.confinement.root;
    std::erase(root.writable, request.spec.directory);
    root.opened.push_back({request.spec.directory, std::move(*directory)});
    Fd network;
    if (request.spec.network) {
        auto opened = open_network_namespace(request.spec.network->netns);
        if (!opened) return fail(std::move(opened.error()));
        network = std::move(*opened);
        process.confinement.network_namespace = name_of(network);
    }
    auto held = std::make_shared<Held>(std::move(user));
    held->directory = *place;
    if (options_.cgroups) {
        const auto* qemu = std::get_if<vmm::QemuStart>(&request.program);
        const auto limits =
            qemu ? qemu::limits_of(request.spec, !qemu->kvm) : firecracker::limits_of(request.spec);
        auto cgroup = options_.cgroups->make(request.spec.id, limits);
        if (!cgroup) return fail(std::move(cgroup.error()));
        auto descriptor = cgroup->descriptor();
        if (!descriptor) return fail(std::move(descriptor.error()));
        process.cgroup = std::move(*descriptor);
        held->cgroup.emplace(std::move(*cgroup));
    }
    remember(held);
    {
        const std::scoped_lock lock{ready_mutex_};
        process.confinement.ready = std::exchange(ready_, std::nullopt);
    }
    auto launched = launcher::launch(process);
    if (launched) launched->held = std::move(held);
    return launched;
}

void LocalWarden::remember(const std::shared_ptr<const Held>& held) {
    const std::scoped_lock lock{held_mutex_};
    std::erase_if(held_, [](const auto& each) { return each.expired(); });
    held_.push_back(held);
}

Result<bool> LocalWarden::works_in(const struct stat& directory) {
    {
        const std::scoped_lock lock{held_mutex_};
        for (const auto& each : held_) {
            const auto held = each.lock();
            if (held && same_file(held->directory, directory)) return true;
        }
    }
    const auto running = processes();
    if (!running) return fail(running.error());
    return std::ranges::any_of(*running, [&](const vmm::WorkingProcess& each) {
        return each.device == directory.st_dev && each.inode == directory.st_ino;
    });
}

bool LocalWarden::is_vmm(pid_t pid) const {
    if (!users_) return true;
    struct stat process {};
    if (::stat(in_proc(pid, "").c_str(), &process) != 0) return false;
    const auto [first, count] = *options_.users;
    if (process.st_uid >= first && process.st_uid - first < count) return true;
    struct stat program {};
    if (::stat(in_proc(pid, "exe").c_str(), &program) != 0) return false;
    return std::ranges::any_of(std::array{&options_.qemu, &options_.firecracker}, [&](const fs::path* path) {
        struct stat ours {};
        return ::stat(path->c_str(), &ours) == 0 && same_file(ours, program);
    });
}

Result<launcher::Launched> LocalWarden::adopt(const ProcessIdentity& process, const fs::path& directory) {
    auto pidfd = open_process(process);
    if (!pidfd) return fail(std::move(pidfd.error()));
    if (has_ended(*pidfd)) return fail(Errc::not_found, "the VMM has ended");
    auto held = std::make_shared<Held>();
    if (users_) {
        const auto place = open_vm_directory(directory);
        if (!place) return fail(place.error());
        struct stat wanted {};
        struct stat works_in {};
        if (::fstat(place->get(), &wanted) != 0)
            return fail_errno(errno, "cannot look at the VM's directory");
        const bool works_there =
            ::stat(in_proc(process.pid, "cwd").c_str(), &works_in) == 0 && same_file(wanted, works_in);
        struct stat status {};
        const bool is_known = ::stat(in_proc(process.pid, "").c_str(), &status) == 0;
        const bool is_ours = works_there && is_known && is_vmm(process.pid);
        // What was looked at was this very process, if it is still there.
        if (const auto now = identify(process.pid); !now || *now != process)
            return fail(Errc::not_found, "the VMM has ended");
        if (!is_ours)
            return fail(Errc::forbidden,
                        "process " + std::to_string(process.pid) + " is no VMM of that directory");
        // None if it runs as nobody of the range, or is looked after already.
        if (auto lease = users_->take(status.st_uid)) held->user = std::move(*lease);
        if (auto cgroup = options_.cgroups ? options_.cgroups->of_process(process.pid) : std::nullopt)
            held->cgroup.emplace(std::move(*cgroup));
        held->directory = wanted;
        remember(held);
    }
    return launcher::Launched{.identity = process, .pidfd = std::move(*pidfd), .held = std::move(held)};
}

Result<vmm::ProcessFiles> LocalWarden::files_of(const ProcessIdentity& process) {
    vmm::ProcessFiles files;
    for (const auto& [place, name] : {std::pair{&files.memory, "mem"},
                                      {&files.pagemap, "pagemap"},
                                      {&files.maps, "maps"},
                                      {&files.smaps_rollup, "smaps_rollup"}}) {
        auto file = open_file(in_proc(process.pid, name), O_RDONLY);
        if (!file) return fail(std::move(file.error()).at("look into the VMM"));
        *place = std::move(*file);
    }
    files.bytes_written = bytes_written(process.pid);
    if (auto output = launcher::CapturedOutput::of_process(process.pid)) {
        if (auto reader = output->writer()) files.output = std::move(*reader);
    }
    files.userfaultfd = userfaultfd_of(process.pid);
    // Looked at after they were opened: all of them are this very process's.
    const auto now = identify(process.pid);
    if (!now || *now != process) return fail(Errc::not_found, "the VMM has ended");
    return files;
}

Result<std::vector<vmm::WorkingProcess>> LocalWarden::processes() {
    std::error_code failed;
    std::vector<vmm::WorkingProcess> found;
    for (fs::directory_iterator entry{"/proc", failed}, end; !failed && entry != end;
         entry.increment(failed)) {
        const auto name = entry->path().filename().string();
        pid_t pid = 0;
        const auto [stopped, error] = std::from_chars(name.data(), name.data() + name.size(), pid);
        if (error != std::errc{} || stopped != name.data() + name.size() || pid == ::getpid()) continue;
        // Identity first: a pid that changes hands in between is then not found under it.
        const auto identity = identify(pid);
        struct stat directory {};
        if (!identity || !is_vmm(pid) || ::stat(in_proc(pid, "cwd").c_str(), &directory) != 0) continue;
        found.push_back({*identity, directory.st_dev, directory.st_ino});
    }
    if (failed) return fail_errno(failed.value(), "cannot list processes");
    return found;
}

Result<vmm::Reclaimed> LocalWarden::reclaim(const fs::path& path) {
    if (!users_) return vmm::Reclaimed::all;
    const auto directory = open_vm_directory(path);
    if (!directory) return fail(directory.error());
    const auto status = look_at_servers(*directory);
    if (!status) return fail(status.error());
    const auto is_used = works_in(*status);
    if (!is_used) return fail(is_used.error());
    if (*is_used) return fail(Errc::conflict, "a VMM works in the directory");
    return privileged::reclaim(*directory, {*options_.users, options_.server.user}, most_reclaimed);
}

}  // namespace noid::privileged
