#include "server_process.hpp"

#include <linux/capability.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <utility>

#include "launcher/capabilities.hpp"
#include "privileged/data_directory.hpp"
#include "privileged/passage.hpp"

namespace noid::server {

namespace {

// What confining VMMs takes (docs/adr/0005), a data directory that is not root's, and a port below 1024.
constexpr std::array needed_capabilities{CAP_SYS_ADMIN, CAP_SYS_CHROOT,      CAP_SETUID,     CAP_SETGID,
                                         CAP_SETPCAP,   CAP_CHOWN,           CAP_FOWNER,     CAP_FSETID,
                                         CAP_KILL,      CAP_DAC_OVERRIDE,    CAP_SYS_PTRACE, CAP_SYS_RESOURCE,
                                         CAP_MKNOD,     CAP_NET_BIND_SERVICE};

// The kernel's usual net.ipv4.ip_unprivileged_port_start.
constexpr std::uint16_t first_unprivileged_port = 1024;

launcher::UserRange vmm_users(const config::ServerConfig& config) {
    return {.first = config.vmm.first_uid, .count = config.vmm.uids};
}

bool is_separated(const config::ServerConfig& config) {
    return ::geteuid() == 0 && config.vmm.jail != config::ServerConfig::Vmm::Jail::never;
}

// Of the data directory that is made ready for him.
Result<privileged::ServerUser> server_user(const config::ServerConfig& config) {
    const auto& data_dir = config.paths.data_dir;
    auto user = privileged::find_server_user(config.server.user, vmm_users(config), data_dir);
    if (!user) return user;
    if (auto shared = privileged::share_data_directory(data_dir, *user, vmm_users(config)); !shared)
        return fail(std::move(shared.error()).at("take over the data directory for " + user->name));
    return user;
}

// Published ports come and go while the server runs, so it must be able to take them itself.
std::vector<int> own_capabilities(const config::ServerConfig& config) {
    if (config.ingress.first_port < first_unprivileged_port) return {CAP_NET_BIND_SERVICE};
    return {};
}

std::vector<std::filesystem::path> read_places(const config::ServerConfig& config) {
    return {config.paths.kernel, config.paths.initrd, config.paths.rootfs};
}

}  // namespace

Result<ServerProcess> ServerProcess::begin(const config::ServerConfig& config,
                                           const std::function<Result<void>()>& as_root,
                                           std::vector<int> own_descriptors) {
    if (::geteuid() == 0) {
        if (auto kept = launcher::keep_capabilities(needed_capabilities); !kept)
            return fail(std::move(kept.error()));
    }
    if (!is_separated(config)) {
        auto starter = vmm_choice::local_starter(config);
        if (!starter) return fail(std::move(starter.error()));
        return ServerProcess{std::move(*starter), ::geteuid() == 0 ? "root" : "its own user"};
    }
    auto user = server_user(config);
    if (!user) return fail(std::move(user.error()));
    auto starter = vmm_choice::local_starter(config, user->credentials);
    if (!starter) return fail(std::move(starter.error()));
    ServerProcess process{{nullptr, std::move(starter->confinement)}, user->name};
    privileged::Separation::Plan plan{
        .user = std::move(*user),
        .data_dir = config.paths.data_dir,
        .configured = {config.paths.kernel, config.paths.initrd, config.paths.netd_socket},
        .warden = std::move(starter->warden),
        .reachable = read_places(config),
        .own_descriptors = std::move(own_descriptors),
        .own_capabilities = own_capabilities(config),
        .as_root = as_root};
    auto separation = privileged::Separation::begin(std::move(plan));
    if (!separation) return fail(std::move(separation.error()));
    process.starter_.warden = separation->warden();
    process.separation_.emplace(std::move(*separation));
    return process;
}

netclient::Client::Connect ServerProcess::network(asio::thread_pool& pool) const {
    if (!separation_) return {};
    return [warden = separation_->warden(), &pool]() -> Awaitable<Result<Fd>> {
        const auto connect = [&] { return warden->connect_to_network(); };
        co_return co_await on_pool(pool, connect);
    };
}

void raise_descriptor_limit() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
}

Result<void> act_as_server_user(const config::ServerConfig& config) {
    std::error_code unreadable;
    // Where there is none, none is made: the command says what it misses.
    if (!is_separated(config) || !std::filesystem::exists(config.paths.data_dir, unreadable)) return {};
    const auto user = server_user(config);
    if (!user) return fail(user.error());
    auto places = read_places(config);
    places.push_back(config.paths.data_dir);
    if (auto opened = privileged::open_passage(places, *user); !opened) return opened;
    return privileged::become(*user);
}

Result<void> give_to_server_user(const config::ServerConfig& config) {
    if (!is_separated(config)) return {};
    const auto user = server_user(config);
    if (!user) return fail(user.error());
    return privileged::give_new_files(config.paths.data_dir, *user);
}

}  // namespace noid::server
