#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "api/message.hpp"

namespace noid::api {

// What the log says about one request. Never a query: it may hold what is secret.
struct RequestRecord {
    using Clock = std::chrono::steady_clock;

    std::string id;
    Clock::time_point began = Clock::now();
    Method method = Method::other;
    std::string path = "-";
    std::string user = "-";
};

// Unique within one run of the server and hard to mistake for one of another run.
[[nodiscard]] std::string next_request_id();

// One line. `forwarded` is the X-Forwarded-For that the request came with.
void log_request(const RequestRecord& record, unsigned status, std::string_view remote,
                 std::string_view forwarded);

}  // namespace noid::api
