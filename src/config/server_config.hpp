#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/units.hpp"

namespace noid::config {

// Everything that server.toml, NOID_* variables and flags can set, checked and with `~` expanded.
// Later sources win: built-in default, file, environment, flag. docs/server.md lists the keys.
struct ServerConfig {
    struct Server {
        std::string listen = "0.0.0.0:7654";
        std::chrono::milliseconds timeout{30'000};  // of a request, never of a stream
        std::uint32_t workers = 4;
        std::uint32_t max_ws_sessions = 256;
        bool trust_forwarded_for = false;
        std::chrono::seconds exec_timeout{30};       // REST exec without a timeout of its own
        std::chrono::seconds console_timeout{3600};  // idle
        std::optional<std::string> metrics_listen;   // "127.0.0.1:9090"
        std::string user = "noid";                   // whom a server of root's becomes
        std::string domain;                          // for <port>-<vm>-<user>.<domain>
    } server;
    struct Ingress {                        // published ports
        std::string address = "127.0.0.1";  // of the host, where they listen
        std::uint16_t first_port = 20'000;
        std::uint16_t last_port = 29'999;
        std::uint32_t max_connections_per_vm = 64;
        bool https = false;  // the URLs of names: a proxy in front has TLS
    } ingress;
    struct Paths {
        std::filesystem::path kernel;    // default: <data_dir>/images/vmlinux
        std::filesystem::path initrd;    // default: <data_dir>/images/initrd.cpio
        std::filesystem::path rootfs;    // default: <data_dir>/images/debian-12.ext4
        std::filesystem::path data_dir;  // default: ~/.noid
        std::filesystem::path netd_socket = "/run/noid/netd.sock";
    } paths;
    struct Limits {  // per user unless said otherwise
        std::uint32_t max_vms = 100;
        MiB max_memory_per_vm{4096};
        std::uint32_t max_vcpus_per_vm = 16;
        MiB max_disk_per_vm{65536};
        MiB max_memory{0};            // of all VMs that have a process; 0: not bounded
        std::uint32_t max_vcpus = 0;  // of these VMs; 0: not bounded
        MiB max_disk{0};              // really used by VMs and checkpoints; 0: not bounded
        // Of one VM's disk, reading and writing together; 0: not limited. What a VM gets that asks for
        // nothing, and the most that it may ask for.
        std::uint64_t disk_bytes_per_second = 0;
        std::uint64_t disk_ops_per_second = 0;
        std::uint64_t max_disk_bytes_per_second = 0;
        std::uint64_t max_disk_ops_per_second = 0;
        std::uint32_t max_sessions_per_vm = 128;
        std::uint64_t max_body_bytes = 1024 * 1024;  // JSON bodies; uploads are streamed
    } limits;
    struct Logging {
        enum class Level : std::uint8_t { debug, info, warn, error } level = Level::info;
        enum class Format : std::uint8_t { text, json } format = Format::text;
    } logging;
    struct Vmm {
        enum class Choice : std::uint8_t { automatic, qemu, firecracker } kind = Choice::automatic;
        std::filesystem::path firecracker = "/usr/local/bin/firecracker";
        std::filesystem::path qemu = "/usr/bin/qemu-system-x86_64";
        enum class Accelerator : std::uint8_t { automatic, kvm, tcg } accelerator = Accelerator::automatic;
        enum class Jail : std::uint8_t { automatic, never } jail = Jail::automatic;
        std::uint32_t first_uid = 2'000'000;  // of the users that confined VMMs run as
        std::uint32_t uids = 16'384;
    } vmm;
    struct Guest {
        std::string init = "agent";  // or an absolute path such as /sbin/init
        std::chrono::seconds boot_timeout{60};
        std::string extra_kernel_arguments;
    } guest;
    struct Storage {
        enum class Pool : std::uint8_t { automatic, never } pool = Pool::automatic;
        MiB pool_size{16384};
        MiB template_budget{16384};  // that saved first boots may occupy; 0: none are kept
    } storage;
    struct Pool {                // VMs that are kept ready, woken from templates and golden
        std::uint32_t size = 0;  // of each template; 0: none
        MiB memory{1024};        // of all of them together, as if each used all of its own
    } pool;
};

// Where settings come from, besides the built-in defaults.
struct ConfigSource {
    std::optional<std::filesystem::path> file;               // --config; else searched, see find_config
    std::vector<std::pair<std::string, std::string>> flags;  // "listen" → value, already split
    std::function<std::optional<std::string>(const std::string&)> environment;  // getenv, or a test's
};

// One key with the names it has elsewhere: "server.listen", --listen, NOID_LISTEN.
struct Setting {
    std::string key;
    std::string flag;  // without the dashes
    std::string variable;
};
[[nodiscard]] std::vector<Setting> settings();

// --config; else ./server.toml where `serve` was said; else ~/.noid/server.toml, then
// /etc/noid/server.toml. None of them there: nullopt, and defaults hold.
[[nodiscard]] std::optional<std::filesystem::path> find_config(const ConfigSource& source,
                                                               bool in_working_directory);

// Reads, merges and checks. The error names file, line and column (or variable or flag), what was
// found and what is expected. Nothing outside is touched.
[[nodiscard]] Result<ServerConfig> load_server_config(const ConfigSource& source, bool in_working_directory);

}  // namespace noid::config
