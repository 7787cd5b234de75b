#include "admin/server_users.hpp"

#include <boost/asio/local/stream_protocol.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <boost/json/serialize.hpp>
#include <boost/url/encode.hpp>
#include <boost/url/rfc/unreserved_chars.hpp>
#include <chrono>
#include <utility>

#include "base/file.hpp"
#include "base/unix_socket.hpp"
#include "wire/json.hpp"

namespace noid::admin {
namespace {

namespace http = boost::beast::http;
using namespace std::chrono_literals;
using Socket = asio::local::stream_protocol::socket;

// Removing a user stops and removes every VM; everything else takes milliseconds.
constexpr auto answer_deadline = 120s;
constexpr std::uint64_t max_answer = 16 * 1024 * 1024;  // a list of some hundred thousand users

Result<wire::json::value> read_answer(const http::response<http::string_body>& answer) {
    auto body = wire::parse_json(answer.body());
    if (!body) return fail(std::move(body).error().at("answer of the server"));
    if (answer.result_int() < 400) return std::move(*body);
    auto problem = wire::ErrorBody::from_json(*body);
    if (!problem) return fail(std::move(problem).error().at("answer of the server"));
    return fail(errc_named(problem->code).value_or(Errc::internal), std::move(problem->error));
}

class ServerUsers final : public Users {
  public:
    explicit ServerUsers(Socket socket) : socket_{std::move(socket)} {}

    Awaitable<Result<wire::UserWithToken>> create(std::string name) override {
        const auto body = boost::json::serialize(wire::to_json(wire::CreateUser{std::move(name)}));
        return ask<wire::UserWithToken>(http::verb::post, "/admin/v1/users", body);
    }

    Awaitable<Result<wire::UserWithToken>> rotate_token(std::string name) override {
        return ask<wire::UserWithToken>(http::verb::post, user_target(name) + "/rotate-token", "");
    }

    Awaitable<Result<std::vector<wire::User>>> list() override {
        auto answer = co_await within(answer_deadline, exchange(http::verb::get, "/admin/v1/users", ""));
        if (!answer) co_return fail(std::move(answer).error());
        if (!answer->is_array()) co_return fail(Errc::corrupt, "answer of the server: not a list of users");
        std::vector<wire::User> users;
        for (const auto& item : answer->get_array()) {
            auto user = wire::User::from_json(item);
            if (!user) co_return fail(std::move(user).error().at("answer of the server"));
            users.push_back(std::move(*user));
        }
        co_return users;
    }

    Awaitable<Result<wire::UserLimits>> limits(std::string name) override {
        return ask<wire::UserLimits>(http::verb::get, user_target(name) + "/limits", "");
    }

    Awaitable<Result<wire::UserLimits>> set_limits(std::string name, wire::OwnLimits limits) override {
        const auto body = boost::json::serialize(wire::to_json(limits));
        return ask<wire::UserLimits>(http::verb::put, user_target(name) + "/limits", body);
    }

    Awaitable<Result<wire::User>> remove(std::string name) override {
        return ask<wire::User>(http::verb::delete_, user_target(name), "");
    }

  private:
    static std::string user_target(std::string_view name) {
        return "/admin/v1/users/" + boost::urls::encode(name, boost::urls::unreserved_chars);
    }

    template <class T>
    Awaitable<Result<T>> ask(http::verb verb, std::string target, std::string body) {
        auto answer = co_await within(answer_deadline, exchange(verb, std::move(target), std::move(body)));
        if (!answer) co_return fail(std::move(answer).error());
        co_return T::from_json(*answer);
    }

    Awaitable<Result<wire::json::value>> exchange(http::verb verb, std::string target, std::string body) {
        http::request<http::string_body> request{verb, target, 11, std::move(body)};
        request.set(http::field::host, "localhost");
        if (!request.body().empty()) request.set(http::field::content_type, "application/json");
        request.prepare_payload();
        boost::system::error_code error;
        auto token = asio::redirect_error(asio::use_awaitable, error);
        co_await http::async_write(socket_, request, token);
        if (error) co_return fail(Errc::unavailable, "the server went away: " + error.message());
        http::response_parser<http::string_body> parser;
        parser.body_limit(max_answer);
        boost::beast::flat_buffer buffer;
        co_await http::async_read(socket_, buffer, parser, token);
        if (error) co_return fail(Errc::unavailable, "the server went away: " + error.message());
        co_return read_answer(parser.get());
    }

    Socket socket_;
};

}  // namespace

Awaitable<Result<std::unique_ptr<Users>>> connect_to_server(std::filesystem::path data_dir) {
    const auto directory = open_directory(data_dir);
    if (!directory) co_return fail(directory.error());
    auto socket = co_await connect_unix_at(*directory, "admin.sock");
    if (!socket) co_return fail(std::move(socket).error());
    std::unique_ptr<Users> users = std::make_unique<ServerUsers>(std::move(*socket));
    co_return users;
}

}  // namespace noid::admin
