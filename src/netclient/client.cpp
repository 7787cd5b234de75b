#include "netclient/client.hpp"

#include <fmt/format.h>

#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/write.hpp>

#include "base/file.hpp"
#include "base/unix_socket.hpp"

namespace noid::netclient {

namespace fs = std::filesystem;
using Socket = asio::local::stream_protocol::socket;

namespace {

std::unexpected<Error> not_running(const fs::path& socket) {
    return fail(Errc::unavailable,
                fmt::format("cannot connect to noid-netd at {} — is noid-netd running? Start it with: "
                            "sudo systemctl start noid-netd",
                            socket.string()));
}

Awaitable<Result<Socket>> connect_directly(const fs::path& path) {
    const auto directory = open_directory(path.parent_path());
    if (!directory) co_return fail(directory.error());
    co_return co_await connect_unix_at(*directory, path.filename().string());
}

Awaitable<Result<Socket>> connect_by(Client::Connect connect) {
    auto opened = co_await connect();
    if (!opened) co_return fail(std::move(opened.error()));
    Socket socket{co_await asio::this_coro::executor};
    socket.assign(asio::local::stream_protocol{}, opened->release());
    co_return std::move(socket);
}

Awaitable<Result<Socket>> connect(const fs::path& path, const Client::Connect& by) {
    auto attempt = by ? connect_by(by) : connect_directly(path);
    auto socket = co_await std::move(attempt);
    if (socket) co_return std::move(*socket);
    switch (socket.error().code) {
        case Errc::forbidden:
            co_return fail(
                Errc::forbidden,
                fmt::format("this user may not use {}: it must be in the group that netd.toml names",
                            path.string()));
        case Errc::not_found:
        case Errc::unavailable:
            co_return not_running(path);
        default:
            co_return fail(std::move(socket.error()));
    }
}

// The next line, without its newline; what was read beyond it stays in `read_ahead`.
Awaitable<Result<std::string>> read_line(Socket& socket, std::string& read_ahead) {
    boost::system::error_code error;
    const std::size_t used =
        co_await asio::async_read_until(socket, asio::dynamic_buffer(read_ahead, net::max_reply_bytes), '\n',
                                        asio::redirect_error(asio::use_awaitable, error));
    if (error == asio::error::not_found) co_return fail(Errc::corrupt, "noid-netd's answer is too long");
    if (error) co_return fail(Errc::unavailable, "noid-netd ended before it answered: " + error.message());
    std::string line = read_ahead.substr(0, used - 1);
    read_ahead.erase(0, used);
    co_return line;
}

// One question and its answer, both without the newline.
Awaitable<Result<std::string>> exchange(Socket& socket, std::string& read_ahead, std::string line) {
    line += '\n';
    boost::system::error_code error;
    co_await asio::async_write(socket, asio::buffer(line), asio::redirect_error(asio::use_awaitable, error));
    // A daemon that refuses a line without reading it to its end has answered nevertheless.
    co_return co_await read_line(socket, read_ahead);
}

Awaitable<Result<std::string>> ask_once(const fs::path& path, const Client::Connect& by, std::string line) {
    auto socket = co_await connect(path, by);
    if (!socket) co_return fail(std::move(socket.error()));
    std::string read_ahead;
    co_return co_await exchange(*socket, read_ahead, std::move(line));
}

template <class T>
Awaitable<Result<T>> parsed(Awaitable<Result<std::string>> asked, Result<T> (*parse)(std::string_view)) {
    const auto reply = co_await std::move(asked);
    if (!reply) co_return fail(reply.error());
    co_return parse(*reply);
}

}  // namespace

Awaitable<Result<std::string>> Client::ask(std::string line) const {
    if (line.size() >= net::max_request_bytes)
        co_return fail(Errc::too_large, "too much to ask of noid-netd");
    auto reply = co_await within(limit_, ask_once(socket_, connect_, std::move(line)));
    if (!reply && reply.error().code == Errc::timed_out)
        co_return fail(Errc::timed_out, "noid-netd does not answer");
    co_return reply;
}

Awaitable<Result<net::SlotDescription>> Client::acquire(const net::AcquireRequest& request) const {
    return parsed(ask(net::to_line(request)), &net::parse_slot_reply);
}

Awaitable<Result<bool>> Client::release(std::string vm) const {
    return parsed(ask(net::to_line(net::ReleaseRequest{std::move(vm)})), &net::parse_release_reply);
}

Awaitable<Result<net::Policy>> Client::policy(std::string vm) const {
    return parsed(ask(net::to_line(net::PolicyRequest{std::move(vm), {}})), &net::parse_policy_reply);
}

Awaitable<Result<net::Policy>> Client::set_policy(std::string vm, net::Policy policy) const {
    return parsed(ask(net::to_line(net::PolicyRequest{std::move(vm), std::move(policy)})),
                  &net::parse_policy_reply);
}

Awaitable<Result<std::vector<net::VmStats>>> Client::stats(std::optional<std::string> vm) const {
    return parsed(ask(net::to_line(net::StatsRequest{std::move(vm)})), &net::parse_stats_reply);
}

Awaitable<Result<std::vector<std::string>>> Client::retain(const net::RetainRequest& request) const {
    return parsed(ask(net::to_line(request)), &net::parse_retain_reply);
}

Awaitable<Result<void>> Client::sleep(std::string vm) const {
    return parsed(ask(net::to_line(net::SleepRequest{std::move(vm)})), &net::parse_done_reply);
}

Awaitable<Result<void>> Client::awake(std::string vm) const {
    return parsed(ask(net::to_line(net::AwakeRequest{std::move(vm)})), &net::parse_done_reply);
}

Awaitable<Result<std::shared_ptr<Watch>>> Client::begin_watch(std::string line) const {
    auto socket = co_await connect(socket_, connect_);
    if (!socket) co_return fail(std::move(socket.error()));
    std::string read_ahead;
    const auto reply = co_await exchange(*socket, read_ahead, std::move(line));
    if (!reply) co_return fail(reply.error());
    auto lost = net::parse_watch_reply(*reply);
    if (!lost) co_return fail(std::move(lost.error()));
    co_return std::make_shared<Watch>(std::move(*socket), std::move(read_ahead), std::move(*lost));
}

Awaitable<Result<std::shared_ptr<Watch>>> Client::watch(const net::WatchRequest& request) const {
    std::string line = net::to_line(request);
    if (line.size() >= net::max_request_bytes)
        co_return fail(Errc::too_large, "too much to ask of noid-netd");
    // Each VM that sleeps is looked at.
    const auto limit = limit_ + std::chrono::milliseconds{20} * request.asleep.size();
    co_return co_await within(limit, begin_watch(std::move(line)));
}

Awaitable<Result<std::string>> Watch::next() {
    const auto line = co_await read_line(socket_, read_ahead_);
    if (!line) co_return fail(line.error());
    co_return net::parse_knock_line(*line);
}

Awaitable<Result<std::vector<net::Finding>>> Client::doctor() const {
    return parsed(ask(net::to_line(net::DoctorRequest{})), &net::parse_doctor_reply);
}

}  // namespace noid::netclient
