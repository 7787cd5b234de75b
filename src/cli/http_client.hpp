#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/async.hpp"
#include "base/error.hpp"
#include "cli/byte_stream.hpp"
#include "cli/server_url.hpp"

namespace noid::cli {

enum class HttpMethod : std::uint8_t { get, head, post, put, delete_ };

struct HttpRequest {
    HttpMethod method = HttpMethod::get;
    std::string target;  // below the server's URL: "/v1/vms"
    std::string body;    // JSON unless `headers` say otherwise
    std::vector<std::pair<std::string, std::string>> headers;
    ByteSource upload;                         // instead of `body`
    std::optional<std::uint64_t> upload_size;  // unknown: chunked
    ByteSink download;                         // takes the body of a 2xx answer
    // Longest wait for the next bytes of the answer; zero: for ever (a stream that may be silent).
    std::chrono::milliseconds read_timeout{30'000};
};

struct HttpAnswer {
    unsigned status = 0;
    std::string body;  // empty where `download` took it
    std::vector<std::pair<std::string, std::string>> headers;
    [[nodiscard]] std::optional<std::string> header(std::string_view name) const;
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
