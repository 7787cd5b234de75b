#include "doctor/network_checks.hpp"

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <exception>
#include <optional>

#include "netclient/client.hpp"

namespace noid::doctor {

namespace {

constexpr std::chrono::seconds patience{5};

Result<std::vector<net::Finding>> ask(const std::filesystem::path& socket) {
    const netclient::Client client{socket, patience};
    asio::io_context loop{1};
    std::optional<Result<std::vector<net::Finding>>> answer;
    asio::co_spawn(loop, client.doctor(),
                   [&](std::exception_ptr thrown, Result<std::vector<net::Finding>> result) {
                       if (thrown) std::rethrow_exception(thrown);
                       answer = std::move(result);
                   });
    loop.run();
    return std::move(*answer);
}

std::string advice_for(const Error& error) {
    switch (error.code) {
        case Errc::unavailable:
            return "VMs are made without a network until it runs: systemctl enable --now noid-netd, and "
                   "[paths] netd_socket must be its 'socket'";
        case Errc::forbidden:
            return "let the server's user into the group that netd.toml names: usermod -aG noid USER, and "
                   "start the server anew";
        case Errc::timed_out:
            return "systemctl restart noid-netd";
        default:
            return "noid-netd and noid-server must be of one version";
    }
}

}  // namespace

std::vector<Finding> check_network(const config::ServerConfig& config) {
    const auto& socket = config.paths.netd_socket;
    const auto findings = ask(socket);
    if (!findings) return {{"netd", Verdict::warning, findings.error().what, advice_for(findings.error())}};
    std::vector<Finding> all{{"netd", Verdict::ok, "answers at " + socket.string(), {}}};
    for (const net::Finding& each : *findings) {
        if (each.verdict != net::Verdict::ok)
            all.push_back({"netd: " + each.subject, Verdict::warning, each.found, each.advice});
    }
    return all;
}

}  // namespace noid::doctor
