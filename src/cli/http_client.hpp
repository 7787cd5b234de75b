#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/async.hpp"
#include "base/error.hpp"
#include "cli/byte_stream.hpp"
#include "cli/server_url.hpp"

namespace noid::cli {

struct HttpAnswer {
    unsigned status = 0;
    std::string body;  // empty where `download` took it
    std::vector<std::pair<std::string, std::string>> headers;
    [[nodiscard]] std::optional<std::string> header(std::string_view name) const;
};

enum class HttpMethod : std::uint8_t { get, head, post, put, patch, delete_ };

struct HttpRequest {
    // `target` is below the server's URL: "/v1/vms"; `body` is JSON unless `headers` say otherwise.
    // (No aggregate: g++ 12 destroys those twice when they stand in a co_await expression.)
    explicit HttpRequest(HttpMethod verb, std::string path, std::string json = {})
        : method{verb}, target{std::move(path)}, body{std::move(json)} {}

    HttpMethod method;
    std::string target;
    std::string body;
    std::vector<std::pair<std::string, std::string>> headers;
    ByteSource upload;                         // instead of `body`
    std::optional<std::uint64_t> upload_size;  // unknown: chunked
    // Sees a 2xx answer's head before `download` gets its body; an error ends the request.
    std::function<Result<void>(const HttpAnswer& head)> begin_download;
    ByteSink download;  // takes the body of a 2xx answer
    // Longest wait for the next bytes of the answer; zero: for ever (a stream that may be silent).
    std::chrono::milliseconds read_timeout{30'000};
};

// Requests to one server, one connection each. Lives on the loop's thread.
class HttpClient {
  public:
    // `proxy` is the http:// proxy to go through.
    HttpClient(ServerUrl server, std::string token, std::optional<ServerUrl> proxy);

    // Any answer of the server, of whatever status, once it is read to its end. unavailable or
    // timed_out when there was none ("connection error: ..."); the sink's or source's error when
    // that ended it.
    Awaitable<Result<HttpAnswer>> send(HttpRequest request) const;

    [[nodiscard]] const ServerUrl& server() const { return server_; }

  private:
    ServerUrl server_;
    std::string token_;
    std::optional<ServerUrl> proxy_;
};

// "noid/<version>"
[[nodiscard]] const std::string& user_agent();

}  // namespace noid::cli
