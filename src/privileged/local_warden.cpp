#include "privileged/local_warden.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <linux/openat2.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <type_traits>
#include <utility>

#include "base/file.hpp"
#include "firecracker/process_spec.hpp"
#include "firecracker/stdio_fifos.hpp"
#include "launcher/captured_output.hpp"
#include "qemu/process_spec.hpp"

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

Result<Fd> open_in_proc(pid_t pid, const char* name) {
    return open_file("/proc/" + std::to_string(pid) + "/" + name, O_RDONLY);
}

}  // namespace

Result<std::unique_ptr<LocalWarden>> LocalWarden::open(Options options) {
    auto directory = open_directory(options.data_dir);
    if (!directory) return fail(std::move(directory.error()));
    std::error_code failed;
    const auto place = fs::read_symlink(name_of(*directory), failed);
    if (failed) return fail_errno(failed.value(), "cannot name the data directory");
    return std::unique_ptr<LocalWarden>{
        new LocalWarden{std::move(options), std::move(*directory), "NOID_DATA_DIR=" + place.string()}};
}

LocalWarden::LocalWarden(Options options, Fd data_dir, std::string mark)
    : options_{std::move(options)}, data_dir_{std::move(data_dir)}, mark_{std::move(mark)} {
    if (options_.users) users_.emplace(*options_.users);
}

Result<Fd> LocalWarden::open_vm_directory(const fs::path& path) const {
    const auto below = path.lexically_relative(options_.data_dir);
    if (below.empty() || below == "." || *below.begin() == "..")
        return fail(Errc::forbidden, "the VM's directory is not in the data directory");
    return open_carefully(data_dir_.get(), below, O_RDONLY | O_DIRECTORY, RESOLVE_BENEATH | no_links);
}

Result<void> LocalWarden::hand_over(const Fd& directory, const vmm::ProcessRequest& request,
                                    gid_t group) const {
    struct stat status {};
    if (::fstat(directory.get(), &status) != 0) return fail_errno(errno, "cannot look at the VM's directory");
    if (status.st_uid != options_.server.user)
        return fail(Errc::forbidden, "the VM's directory is not the server's");
    // Sticky: only the owner of a file or of the directory removes or renames the file. Set-group-id: what
    // is made in there is the group's.
    if (::fchown(directory.get(), static_cast<uid_t>(-1), group) != 0 ||
        ::fchmod(directory.get(), 03770) != 0)
        return fail_errno(errno, "cannot set who may use the VM's directory");
    std::vector<std::string> names{request.spec.rootfs};
    if (std::holds_alternative<vmm::FirecrackerStart>(request.program))
        names.insert(names.end(), {firecracker::input_fifo, firecracker::output_fifo, firecracker::log_fifo});
    for (const auto& name : names) {
        if (auto done = open_to_group(directory, name, options_.server.user, group); !done) return done;
    }
    return {};
}

Result<launcher::ProcessSpec> LocalWarden::specify(const vmm::ProcessRequest& request,
                                                   const std::optional<launcher::Credentials>& user) const {
    const auto visit = [&](const auto& program) {
        using Program = std::remove_cvref_t<decltype(program)>;
        if constexpr (std::is_same_v<Program, vmm::QemuStart>)
            return qemu::process_spec(options_.qemu, request.spec, program, user);
        else if constexpr (std::is_same_v<Program, vmm::FirecrackerStart>)
            return firecracker::process_spec(options_.firecracker, request.spec, user);
        else
            return firecracker::version_spec(options_.firecracker, user);
    };
    auto process = std::visit(visit, request.program);
    process.environment.insert(process.environment.begin(), mark_);
    return process;
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
    process->descriptors = std::move(request.descriptors);

    Fd network;
    if (user && !std::holds_alternative<vmm::FirecrackerVersion>(request.program)) {
        auto directory = open_vm_directory(request.spec.directory);
        if (!directory) return fail(std::move(directory.error()));
        if (auto done = hand_over(*directory, request, user->group); !done)
            return fail(std::move(done.error()));
        // What was looked at is what appears in there, whatever the path leads to by then.
        auto& root = *process->confinement.root;
        std::erase(root.writable, request.spec.directory);
        root.opened.push_back({request.spec.directory, std::move(*directory)});
        if (request.spec.network) {
            auto opened = open_network_namespace(request.spec.network->netns);
            if (!opened) return fail(std::move(opened.error()));
            network = std::move(*opened);
            process->confinement.network_namespace = name_of(network);
        }
    }
    auto launched = launcher::launch(*process);
    if (launched) launched->held = std::move(user);
    return launched;
}

bool LocalWarden::is_ours(pid_t pid) const {
    if (!users_) return true;
    const auto environment = open_in_proc(pid, "environ");
    if (!environment) return false;
    std::string begin(mark_.size() + 1, '\0');
    if (::read(environment->get(), begin.data(), begin.size()) != static_cast<ssize_t>(begin.size()) ||
        begin != mark_ + '\0')
        return false;
    struct stat process {};
    if (::stat(("/proc/" + std::to_string(pid)).c_str(), &process) != 0) return false;
    const auto [first, count] = *options_.users;
    if (process.st_uid >= first && process.st_uid - first < count) return true;
    // Started when VMMs were not confined.
    struct stat program {};
    if (::stat(("/proc/" + std::to_string(pid) + "/exe").c_str(), &program) != 0) return false;
    return std::ranges::any_of(std::array{&options_.qemu, &options_.firecracker}, [&](const fs::path* path) {
        struct stat ours {};
        return ::stat(path->c_str(), &ours) == 0 && ours.st_dev == program.st_dev &&
               ours.st_ino == program.st_ino;
    });
}

Result<launcher::Launched> LocalWarden::adopt(const ProcessIdentity& process) {
    auto pidfd = open_process(process);
    if (!pidfd) return fail(std::move(pidfd.error()));
    if (!is_ours(process.pid)) {
        if (!open_process(process)) return fail(Errc::not_found, "the VMM has ended");
        return fail(Errc::forbidden, "process " + std::to_string(process.pid) + " is no VMM of this server");
    }
    launcher::Launched adopted{.identity = process, .pidfd = std::move(*pidfd)};
    struct stat status {};
    const auto path = "/proc/" + std::to_string(process.pid);
    if (users_ && ::stat(path.c_str(), &status) == 0) {
        // None if it runs as nobody of the range, or is looked after already.
        if (auto lease = users_->take(status.st_uid)) adopted.held = std::move(*lease);
    }
    return adopted;
}

Result<vmm::ProcessFiles> LocalWarden::files_of(const ProcessIdentity& process) {
    vmm::ProcessFiles files;
    for (const auto& [place, name] : {std::pair{&files.memory, "mem"},
                                      {&files.pagemap, "pagemap"},
                                      {&files.maps, "maps"},
                                      {&files.smaps_rollup, "smaps_rollup"},
                                      {&files.io, "io"}}) {
        auto file = open_in_proc(process.pid, name);
        if (!file) return fail(std::move(file.error()).at("look into the VMM"));
        *place = std::move(*file);
    }
    if (auto output = launcher::CapturedOutput::of_process(process.pid)) {
        auto reader = output->writer();
        if (reader) files.output = std::move(*reader);
    }
    // Looked at after they were opened: all of them are this very process's.
    const auto now = identify(process.pid);
    if (!now || *now != process) return fail(Errc::not_found, "the VMM has ended");
    if (!is_ours(process.pid)) return fail(Errc::forbidden, "not a VMM of this server");
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
        if (!identity || !is_ours(pid) || ::stat((entry->path() / "cwd").c_str(), &directory) != 0) continue;
        found.push_back({*identity, directory.st_dev, directory.st_ino});
    }
    if (failed) return fail_errno(failed.value(), "cannot list processes");
    return found;
}

}  // namespace noid::privileged
