#include "qemu/qmp_client.hpp"

#include <boost/asio/buffer.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/write.hpp>
#include <exception>
#include <map>
#include <optional>
#include <utility>
#include <variant>

namespace noid::qemu {

namespace json = boost::json;

// Shared with the two coroutines that read and write, which end when the socket is closed.
class QmpClient::Connection : public std::enable_shared_from_this<Connection> {
  public:
    Connection(asio::local::stream_protocol::socket socket, OnEvent on_event)
        : socket_{std::move(socket)}, on_event_{std::move(on_event)}, changed_{socket_.get_executor()} {
        changed_.expires_at(asio::steady_timer::time_point::max());
    }

    void start() {
        const auto self = shared_from_this();
        asio::co_spawn(socket_.get_executor(), read_messages(), [self](std::exception_ptr) { self->end(); });
    }

    void close() {
        on_event_ = nullptr;
        end();
        boost::system::error_code ignored;
        socket_.close(ignored);
    }

    [[nodiscard]] bool ended() const noexcept { return ended_; }
    [[nodiscard]] bool greeted() const noexcept { return greeted_; }

    void send(std::uint64_t id, std::string_view command, const json::object& arguments) {
        outbox_ += format_qmp(id, command, arguments);
        if (writing_) return;
        writing_ = true;
        const auto self = shared_from_this();
        asio::co_spawn(socket_.get_executor(), write_outbox(),
                       [self](std::exception_ptr) { self->writing_ = false; });
    }

    // Waits until `arrived` holds, the connection ends or the deadline passes.
    Awaitable<Result<void>> wait_until(std::function<bool()> arrived, std::chrono::milliseconds limit) {
        const auto self = shared_from_this();
        const auto wait = [&]() -> Awaitable<Result<void>> {
            while (!arrived()) {
                if (self->ended_) co_return fail(Errc::unavailable, "QEMU closed its control connection");
                boost::system::error_code woken;
                co_await self->changed_.async_wait(asio::redirect_error(asio::use_awaitable, woken));
            }
            co_return Result<void>{};
        };
        co_return co_await within(limit, wait());
    }

    // A reply is kept for those who asked, and dropped when nobody waits for it any more.
    void expect(std::uint64_t id) { replies_.emplace(id, std::nullopt); }
    void forget(std::uint64_t id) { replies_.erase(id); }
    [[nodiscard]] bool has_reply(std::uint64_t id) const {
        const auto found = replies_.find(id);
        return found != replies_.end() && found->second.has_value();
    }
    [[nodiscard]] Result<json::value> take_reply(std::uint64_t id) { return std::move(*replies_.at(id)); }
    [[nodiscard]] std::uint64_t next_id() noexcept { return ++last_id_; }

  private:
    Awaitable<void> read_messages() {
        const auto self = shared_from_this();
        std::string buffer;
        while (!ended_) {
            const std::size_t length = co_await asio::async_read_until(
                socket_, asio::dynamic_buffer(buffer, max_qmp_line), '\n', asio::use_awaitable);
            auto message = parse_qmp(std::string_view{buffer}.substr(0, length));
            buffer.erase(0, length);
            if (!message) co_return;  // the line discipline is lost: whoever waits hears that it ended
            handle(std::move(*message));
        }
    }

    Awaitable<void> write_outbox() {
        const auto self = shared_from_this();
        while (!outbox_.empty() && !ended_) {
            const std::string batch = std::exchange(outbox_, {});
            co_await asio::async_write(socket_, asio::buffer(batch), asio::use_awaitable);
        }
    }

    void handle(QmpMessage message) {
        if (auto* reply = std::get_if<QmpReply>(&message)) {
            keep(reply->id, std::move(reply->value));
        } else if (auto* failure = std::get_if<QmpFailure>(&message)) {
            keep(failure->id, fail(Errc::internal, "QEMU: " + failure->description));
        } else if (auto* event = std::get_if<QmpEvent>(&message)) {
            if (on_event_) on_event_(*event);
        } else {
            greeted_ = true;
        }
        changed_.cancel();
    }

    void keep(std::uint64_t id, Result<json::value> result) {
        if (const auto found = replies_.find(id); found != replies_.end()) found->second = std::move(result);
    }

    void end() {
        ended_ = true;
        changed_.cancel();
    }

    asio::local::stream_protocol::socket socket_;
    OnEvent on_event_;
    asio::steady_timer changed_;  // never expires; cancelled to wake all who wait for something
    std::map<std::uint64_t, std::optional<Result<json::value>>> replies_;
    std::string outbox_;
    std::uint64_t last_id_ = 0;
    bool writing_ = false;
    bool greeted_ = false;
    bool ended_ = false;
};

Awaitable<Result<std::unique_ptr<QmpClient>>> QmpClient::connect(asio::local::stream_protocol::socket socket,
                                                                 OnEvent on_event,
                                                                 std::chrono::milliseconds limit) {
    auto connection = std::make_shared<Connection>(std::move(socket), std::move(on_event));
    connection->start();
    std::unique_ptr<QmpClient> client{new QmpClient{connection}};
    // Conditions are named: g++ 12 destroys a temporary functor of a co_await expression twice.
    const std::function<bool()> greeted = [&] { return connection->greeted(); };
    if (auto heard = co_await connection->wait_until(greeted, limit); !heard)
        co_return fail(std::move(heard.error()));
    if (auto ready = co_await client->execute("qmp_capabilities", {}, limit); !ready)
        co_return fail(std::move(ready.error()));
    co_return std::move(client);
}

QmpClient::~QmpClient() {
    connection_->close();
}

Awaitable<Result<json::value>> QmpClient::execute(std::string_view command, json::object arguments,
                                                  std::chrono::milliseconds limit) {
    const auto connection = connection_;
    const std::uint64_t id = connection->next_id();
    // Also when this coroutine is cancelled the slot must go.
    struct Slot {
        Connection& connection;
        std::uint64_t id;
        ~Slot() { connection.forget(id); }
    } slot{*connection, id};
    connection->expect(id);
    const std::string name{command};
    connection->send(id, name, arguments);
    const std::function<bool()> replied = [&] { return connection->has_reply(id); };
    if (auto done = co_await connection->wait_until(replied, limit); !done)
        co_return fail(std::move(done.error()).at(name));
    auto reply = connection->take_reply(id);
    if (!reply) co_return fail(std::move(reply.error()).at(name));
    co_return std::move(reply);
}

Awaitable<Result<void>> QmpClient::wait_until(std::function<bool()> arrived,
                                              std::chrono::milliseconds limit) {
    return connection_->wait_until(std::move(arrived), limit);
}

Awaitable<Result<void>> QmpClient::closed(std::chrono::milliseconds limit) {
    const auto connection = connection_;
    const std::function<bool()> ended = [&] { return connection->ended(); };
    co_return co_await connection->wait_until(ended, limit);
}

}  // namespace noid::qemu
