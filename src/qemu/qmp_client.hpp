#pragma once

#include <boost/asio/local/stream_protocol.hpp>
#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/async.hpp"
#include "base/error.hpp"
#include "qemu/qmp_message.hpp"

namespace noid::qemu {

// One QMP connection. Used on the executor of the coroutine that connected it. Destroying it closes the
// connection; commands under way then end with `unavailable`.
class QmpClient {
  public:
    // Called for each event, in order, before the reply of the command that caused it.
    using OnEvent = std::function<void(const QmpEvent&)>;

    // Takes the greeting and negotiates. timed_out, unavailable (QEMU closed), corrupt.
    [[nodiscard]] static Awaitable<Result<std::unique_ptr<QmpClient>>> connect(
        asio::local::stream_protocol::socket socket, OnEvent on_event, std::chrono::milliseconds limit);
    QmpClient(const QmpClient&) = delete;
    QmpClient& operator=(const QmpClient&) = delete;
    ~QmpClient();

    // What QEMU returned. internal: QEMU refused, in its words; timed_out; unavailable when the connection
    // has ended. Cancelled or timed out: QEMU may still carry it out.
    Awaitable<Result<boost::json::value>> execute(std::string_view command, boost::json::object arguments,
                                                  std::chrono::milliseconds limit);
    // Waits until `arrived` holds; it is asked after each event. unavailable when the connection ends before.
    Awaitable<Result<void>> wait_until(std::function<bool()> arrived, std::chrono::milliseconds limit);
    // Waits until QEMU has closed the connection and every event was delivered.
    Awaitable<Result<void>> closed(std::chrono::milliseconds limit);

  private:
    class Connection;
    explicit QmpClient(std::shared_ptr<Connection> connection) noexcept
        : connection_{std::move(connection)} {}

    std::shared_ptr<Connection> connection_;
};

}  // namespace noid::qemu
