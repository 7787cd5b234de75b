#pragma once

#include <sys/types.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/fd.hpp"
#include "launcher/ready_namespaces.hpp"

namespace noid::launcher {

// Whom a process runs as. It gets no supplementary groups.
struct Credentials {
    uid_t user = 0;
    gid_t group = 0;
};

// A file system root of the program's own: an empty, read-only tmpfs in which only these appear, each at the
// path that it has on the host. The program itself, its libraries and its working directory must be among
// them. None may lie in another. There is no /proc and no /sys. Needs CAP_SYS_ADMIN, and CAP_MKNOD for
// devices.
struct PrivateRoot {
    std::vector<std::filesystem::path> readable;  // files, or directories with all below them
    std::vector<std::filesystem::path> writable;
    std::vector<std::filesystem::path> devices;  // nodes of its own, which only the program's user may open
    // Directories that the caller has opened, writable, at these paths. What the paths mean by now does not
    // matter.
    struct Opened {
        std::filesystem::path path;
        Fd directory;
    };
    std::vector<Opened> opened = {};
    // Small files that are only in there, readable.
    struct File {
        std::filesystem::path path;
        std::string content;
    };
    std::vector<File> files = {};
};

// Whether a process may have a userfaultfd, and so handle faults of its memory itself: those of the kernel,
// too, would help whoever attacks the kernel.
enum class Userfaultfd : std::uint8_t { none, of_own_faults };

// What a launched process may see and do. The default takes away nothing but the way to new
// privileges, which no launched process ever has.
struct Confinement {
    // With them, all capabilities go, those that could be gained by executing something too.
    std::optional<Credentials> credentials;
    // Implies own_mounts.
    std::optional<PrivateRoot> root;
    // A namespace to join, for example /run/netns/noid3. Empty: the caller's.
    std::filesystem::path network_namespace;
    // Namespaces of its own. They and the joining of one need CAP_SYS_ADMIN.
    bool own_mounts = false;
    bool own_pids = false;  // it is process 1 in there: signals that it does not handle are ignored
    bool own_ipc = false;
    bool own_host_name = false;
    // With nothing in it, not even a loopback that is up; not together with network_namespace.
    bool own_network = false;
    // Of these, the ones with which `root` and own_network begin, instead of making them.
    std::optional<ReadyNamespaces> ready = {};
    // Without the system calls that no VMM needs: see launcher/system_calls.hpp.
    bool few_system_calls = false;
    Userfaultfd userfaultfd = Userfaultfd::none;  // one of these system calls
};

}  // namespace noid::launcher
