#include "user_command.hpp"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>
#include <cstdio>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "admin/offline_users.hpp"
#include "admin/server_users.hpp"
#include "base/log.hpp"
#include "server_process.hpp"

namespace noid::server {
namespace {

void print_json(const wire::json::value& value) {
    fmt::print("{}\n", boost::json::serialize(value));
}

void print_token(const wire::UserWithToken& made, const UserCommand& command) {
    if (command.json) {
        print_json(wire::to_json(made));
    } else {
        fmt::print("{}{}\n", command.original_spelling ? "noid_tok_" : "", made.token);
    }
}

void print_table(const std::vector<wire::User>& users) {
    if (users.empty()) {
        fmt::print("No users.\n");
        return;
    }
    fmt::print("{:<36}  {:<20}  {}\n", "ID", "NAME", "CREATED");
    for (const auto& user : users) fmt::print("{:<36}  {:<20}  {}\n", user.id, user.name, user.created_at);
}

Awaitable<Result<void>> list(admin::Users& users, bool as_json) {
    const auto found = co_await users.list();
    if (!found) co_return fail(found.error());
    if (as_json) {
        boost::json::array all;
        for (const auto& user : *found) all.emplace_back(wire::to_json(user));
        print_json(all);
    } else {
        print_table(*found);
    }
    co_return Result<void>{};
}

std::string amount(std::uint64_t used, std::uint64_t allowed, std::optional<std::uint64_t> own,
                   std::string_view unit) {
    const auto limit = allowed == 0 ? std::string{"no limit"} : fmt::format("of {}{}", allowed, unit);
    return fmt::format("{}{} {}{}", used, unit, limit, own ? " (set for this user)" : "");
}

void print_limits(const wire::UserLimits& limits) {
    const auto& [own, allowed, used] = limits;
    fmt::print("VMs:     {}\nMemory:  {}\nvCPUs:   {}\nDisk:    {}\n",
               amount(used.vms, allowed.vms, own.max_vms, ""),
               amount(used.memory_mib, allowed.memory_mib, own.max_memory_mib, " MiB"),
               amount(used.vcpus, allowed.vcpus, own.max_vcpus, ""),
               amount(used.disk_mib, allowed.disk_mib, own.max_disk_mib, " MiB"));
}

Awaitable<Result<void>> set_limits(admin::Users& users, const UserCommand& command) {
    const auto present = co_await users.limits(command.name);
    if (!present) co_return fail(present.error());
    wire::OwnLimits wanted = present->own;
    if (command.max_vms) wanted.max_vms = *command.max_vms;
    if (command.max_memory_mib) wanted.max_memory_mib = *command.max_memory_mib;
    if (command.max_vcpus) wanted.max_vcpus = *command.max_vcpus;
    if (command.max_disk_mib) wanted.max_disk_mib = *command.max_disk_mib;
    const auto now = co_await users.set_limits(command.name, wanted);
    if (!now) co_return fail(now.error());
    if (command.json) {
        print_json(wire::to_json(*now));
    } else {
        print_limits(*now);
    }
    co_return Result<void>{};
}

Awaitable<Result<void>> show(admin::Users& users, const UserCommand& command) {
    const auto found = co_await users.list();
    if (!found) co_return fail(found.error());
    const auto user = std::ranges::find(*found, command.name, &wire::User::name);
    if (user == found->end())
        co_return fail(Errc::not_found, fmt::format("user '{}' not found", command.name));
    const auto limits = co_await users.limits(command.name);
    if (!limits) co_return fail(limits.error());
    if (command.json) {
        auto shown = wire::to_json(*user);
        shown.emplace("limits", wire::to_json(*limits));
        print_json(shown);
    } else {
        fmt::print("Name:    {}\nID:      {}\nCreated: {}\n", user->name, user->id, user->created_at);
        print_limits(*limits);
    }
    co_return Result<void>{};
}

Awaitable<Result<void>> perform(admin::Users& users, const UserCommand& command) {
    switch (command.verb) {
        case UserCommand::Verb::create: {
            const auto made = co_await users.create(command.name);
            if (!made) co_return fail(made.error());
            fmt::print(stderr, "User '{}' created (id: {})\n", made->user.name, made->user.id);
            print_token(*made, command);
            co_return Result<void>{};
        }
        case UserCommand::Verb::rotate_token: {
            const auto made = co_await users.rotate_token(command.name);
            if (!made) co_return fail(made.error());
            fmt::print(stderr, "Token rotated for user '{}'\n", made->user.name);
            print_token(*made, command);
            co_return Result<void>{};
        }
        case UserCommand::Verb::remove: {
            const auto removed = co_await users.remove(command.name);
            if (!removed) co_return fail(removed.error());
            fmt::print(stderr, "User '{}' removed (id: {})\n", removed->name, removed->id);
            if (command.json) print_json(wire::to_json(*removed));
            co_return Result<void>{};
        }
        case UserCommand::Verb::list:
            co_return co_await list(users, command.json);
        case UserCommand::Verb::show:
            co_return co_await show(users, command);
        case UserCommand::Verb::set_limits:
            co_return co_await set_limits(users, command);
    }
    std::unreachable();
}

// Nothing: no server has the data directory.
Awaitable<std::optional<Result<void>>> ask_server(const config::ServerConfig& config,
                                                  const UserCommand& command) {
    auto online = co_await admin::connect_to_server(config.paths.data_dir);
    if (online) co_return co_await perform(**online, command);
    const Errc why = online.error().code;
    if (why != Errc::not_found && why != Errc::unavailable) co_return fail(std::move(online.error()));
    co_return std::nullopt;
}

Awaitable<Result<void>> work_in_its_place(asio::io_context& loop, asio::thread_pool& pool,
                                          const config::ServerConfig& config, const ServerProcess& process,
                                          const UserCommand& command) {
    auto offline =
        co_await admin::OfflineUsers::open(loop, pool, config, process.starter(), process.network(pool));
    if (!offline) co_return fail(std::move(offline).error());
    auto done = co_await perform(**offline, command);
    co_await (*offline)->close();
    co_return done;
}

template <class T>
T run(asio::io_context& loop, Awaitable<T> work) {
    std::optional<T> outcome;
    asio::co_spawn(loop, std::move(work), [&](std::exception_ptr bug, T ended) {
        if (bug) std::rethrow_exception(bug);
        outcome = std::move(ended);
    });
    loop.run();
    loop.restart();
    return outcome ? std::move(*outcome) : T{fail(Errc::internal, "ended without an answer")};
}

Result<void> carry_out(const config::ServerConfig& config, const UserCommand& command) {
    {
        asio::io_context loop;
        if (auto done = run(loop, ask_server(config, command))) return std::move(*done);
    }
    ::umask(0077);
    const auto process = ServerProcess::begin(config);
    if (!process) return fail(process.error());
    log::set_up(log::Level::warn, log::Format::text);
    asio::io_context loop;
    asio::thread_pool pool{2};
    auto done = run(loop, work_in_its_place(loop, pool, config, *process, command));
    pool.join();
    log::shut_down();
    return done;
}

}  // namespace

int administer_users(const config::ConfigSource& source, const UserCommand& command) {
    const auto config = config::load_server_config(source, false);
    if (!config) {
        fmt::print(stderr, "Error: {}\n", config.error().what);
        return 2;
    }
    const auto done = carry_out(*config, command);
    if (done) return 0;
    fmt::print(stderr, "Error: {}\n", done.error().full());
    return 1;
}

}  // namespace noid::server
