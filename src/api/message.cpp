#include "api/message.hpp"

#include <boost/json/serialize.hpp>

#include "wire/server_info.hpp"
#include "wire/utf8.hpp"

namespace noid::api {

std::string_view name_of(Method method) noexcept {
    switch (method) {
        case Method::get:
            return "GET";
        case Method::head:
            return "HEAD";
        case Method::post:
            return "POST";
        case Method::put:
            return "PUT";
        case Method::patch:
            return "PATCH";
        case Method::delete_:
            return "DELETE";
        case Method::options:
            return "OPTIONS";
        case Method::other:
            return "OTHER";
    }
    return "OTHER";
}

Response Response::json(std::string body, unsigned status) {
    return Response{status, "application/json", std::move(body), {}, false};
}

Response Response::text(std::string body, unsigned status) {
    return Response{status, "text/plain; charset=utf-8", std::move(body), {}, false};
}

Response Response::no_content() {
    return Response{204, {}, {}, {}, false};
}

Response Response::already_sent() {
    return Response{200, {}, {}, {}, true};
}

unsigned status_of(Errc code) noexcept {
    switch (code) {
        case Errc::invalid:
            return 400;
        case Errc::unauthenticated:
            return 401;
        case Errc::forbidden:
            return 403;
        case Errc::not_found:
            return 404;
        case Errc::conflict:
            return 409;
        case Errc::too_large:
            return 413;
        case Errc::limit_exceeded:
            return 403;
        case Errc::rate_limited:
            return 429;
        case Errc::timed_out:
            return 504;
        case Errc::cancelled:
            return 499;
        case Errc::unavailable:
            return 503;
        case Errc::unsupported:
            return 501;
        case Errc::no_space:
            return 507;
        case Errc::corrupt:
            return 502;
        case Errc::internal:
            return 500;
    }
    return 500;
}

Response to_response(const Error& error, std::string_view request_id) {
    return problem(status_of(error.code), noid::name_of(error.code), error.what, request_id);
}

Response problem(unsigned status, std::string_view code, std::string_view message,
                 std::string_view request_id) {
    // Messages may quote a guest or a caller: whatever they hold, the answer stays valid JSON.
    const wire::ErrorBody body{wire::to_utf8(message), std::string{code}, std::string{request_id}};
    return Response::json(boost::json::serialize(wire::to_json(body)), status);
}

}  // namespace noid::api
