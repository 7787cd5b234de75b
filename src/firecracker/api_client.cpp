#include "firecracker/api_client.hpp"

#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>
#include <boost/json.hpp>

#include "base/unix_socket.hpp"

namespace noid::firecracker {

namespace http = boost::beast::http;
namespace json = boost::json;
using namespace std::chrono_literals;

namespace {

constexpr std::size_t body_limit = 64 * 1024;
constexpr std::size_t header_limit = 8 * 1024;
constexpr std::size_t fault_limit = 1024;  // what of a fault is passed on
constexpr auto question_deadline = 30s;    // it takes milliseconds, unless the host is very busy

http::verb verb_of(Request::Method method) {
    switch (method) {
        case Request::Method::get:
            return http::verb::get;
        case Request::Method::put:
            return http::verb::put;
        case Request::Method::patch:
            return http::verb::patch;
    }
    return http::verb::unknown;
}

// A string member of a JSON object in an answer; nothing if it is not there.
std::optional<std::string> member(const std::string& body, std::string_view name) {
    boost::system::error_code error;
    const auto value = json::parse(body, error);
    if (error || !value.is_object()) return std::nullopt;
    const auto* found = value.get_object().if_contains(name);
    if (found == nullptr || !found->is_string()) return std::nullopt;
    return std::string{found->get_string()};
}

// What the host lacked, if that is what a fault says: Firecracker gives the system's errors in Rust's words
// (std::io::Error), with their number, ENOSPC or EDQUOT, at the end.
Errc kind_of(std::string_view fault) {
    const bool is_full = fault.contains("(os error 28)") || fault.contains("(os error 122)");
    return is_full ? Errc::no_space : Errc::internal;
}

Error refusal(const Request& request, unsigned status, const std::string& body) {
    auto fault = member(body, "fault_message").value_or("status " + std::to_string(status));
    const auto kind = kind_of(fault);
    if (fault.size() > fault_limit) fault.resize(fault_limit);
    return {kind, "firecracker refuses " + describe(request) + ": " + fault, {}};
}

Awaitable<Result<std::string>> exchange(const Fd& directory, Request request) {
    auto socket = co_await connect_unix_at(directory, api_socket);
    if (!socket) co_return fail(std::move(socket.error()));

    http::request<http::string_body> message{verb_of(request.method), request.target, 11, request.body};
    message.set(http::field::host, "localhost");
    message.set(http::field::accept, "application/json");
    if (!request.body.empty()) {
        message.set(http::field::content_type, "application/json");
        message.prepare_payload();
    }
    boost::system::error_code error;
    co_await http::async_write(*socket, message, asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return fail(Errc::unavailable, "cannot send " + describe(request) + ": " + error.message());

    boost::beast::flat_buffer buffer{header_limit + body_limit};
    http::response_parser<http::string_body> answer;
    answer.header_limit(header_limit);
    answer.body_limit(body_limit);
    co_await http::async_read(*socket, buffer, answer, asio::redirect_error(asio::use_awaitable, error));
    if (error == http::error::end_of_stream || error == http::error::partial_message ||
        error == asio::error::connection_reset)
        co_return fail(Errc::unavailable, "firecracker ended during " + describe(request));
    if (error) co_return fail(Errc::corrupt, "bad answer to " + describe(request) + ": " + error.message());

    const auto status = answer.get().result_int();
    if (status != 200 && status != 204) co_return fail(refusal(request, status, answer.get().body()));
    co_return std::move(answer.get().body());
}

}  // namespace

Awaitable<Result<std::string>> ApiClient::send(Request request, std::chrono::milliseconds deadline) const {
    const auto doing = describe(request);
    auto answer = co_await within(deadline, exchange(*directory_, std::move(request)));
    if (!answer && answer.error().code == Errc::timed_out)
        co_return fail(std::move(answer.error()).at("firecracker, " + doing));
    co_return answer;
}

Awaitable<Result<ApiClient::State>> ApiClient::state() const {
    const auto answer = co_await send(instance_info(), question_deadline);
    if (!answer) co_return fail(answer.error());
    const auto name = member(*answer, "state");
    if (name == "Not started") co_return State::not_started;
    if (name == "Running") co_return State::running;
    if (name == "Paused") co_return State::paused;
    co_return fail(Errc::corrupt, "firecracker does not say what state it is in");
}

}  // namespace noid::firecracker
