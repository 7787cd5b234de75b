#include "api/guest_proxy.hpp"

#include <array>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "api/guest_answer.hpp"
#include "api/hop_fields.hpp"
#include "ingress/tunnel.hpp"

namespace noid::api {

namespace {

// What only the server in front of the guest may say.
constexpr std::array<std::string_view, 7> forged_fields{
    "Forwarded",        "X-Forwarded-For",    "X-Forwarded-Proto", "X-Forwarded-Host",
    "X-Forwarded-Port", "X-Forwarded-Server", "X-Real-IP"};

// A Cookie field without our own cookie.
std::string without_cookie(std::string_view cookies, std::string_view hidden) {
    std::string kept;
    split(cookies, ';', [&](std::string_view cookie) {
        if (trimmed(cookie.substr(0, cookie.find('='))) == hidden) return;
        if (!kept.empty()) kept += "; ";
        kept += cookie;
    });
    return kept;
}

std::string request_head(const HttpChannel& channel, const Forwarding& forwarding, bool upgrade) {
    const RequestHead& head = channel.head();
    const std::vector<HeaderField> fields = channel.headers();
    const std::vector<std::string> hop_by_wish = named_by_connection(fields);
    HeadLines lines;
    for (const auto& [name, value] : fields) {
        if (is_one_of(name, hop_fields) || is_one_of(name, forged_fields) || is_one_of(name, hop_by_wish))
            continue;
        if (forwarding.hide_authorization && same(name, "Authorization")) continue;
        if (same(name, "Cookie")) {
            if (const auto kept = without_cookie(value, forwarding.hidden_cookie); !kept.empty())
                lines.add("Cookie", kept);
            continue;
        }
        lines.add(name, value);
    }
    lines.add("X-Forwarded-For", forwarding.client);
    lines.add("X-Forwarded-Proto", forwarding.protocol);
    lines.add("X-Forwarded-Host", channel.header("Host"));
    if (upgrade) {
        lines.add("Connection", "Upgrade");
        lines.add("Upgrade", channel.header("Upgrade"));
    } else {
        lines.add("Connection", "close");
    }
    if (head.content_length) {
        lines.add("Content-Length", std::to_string(*head.content_length));
    } else if (!channel.body_read()) {
        lines.add("Transfer-Encoding", "chunked");
    }
    std::string text;
    text.append(head.verb).append(" ").append(head.target).append(" HTTP/1.1\r\n");
    text.append(lines.text()).append("\r\n");
    return text;
}

std::string chunk_of(std::string_view bytes) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string size;
    for (std::size_t rest = bytes.size(); rest > 0; rest /= 16) size.insert(size.begin(), digits[rest % 16]);
    return size + "\r\n" + std::string{bytes} + "\r\n";
}

class ChannelDuplex final : public ingress::Duplex {
  public:
    explicit ChannelDuplex(HttpChannel& channel) : channel_{channel} {}
    Awaitable<Result<std::string>> read() override { return channel_.read_raw(); }
    Awaitable<Result<void>> write(std::string_view bytes) override { return channel_.write_raw(bytes); }
    void end_writing() override { channel_.shut_down_writing(); }
    void abort() override { channel_.close(); }

  private:
    HttpChannel& channel_;
};

class Proxy {
  public:
    Proxy(HttpChannel& channel, ingress::GuestStream& guest, const Forwarding& forwarding)
        : channel_{channel},
          guest_{guest},
          forwarding_{forwarding},
          upgrade_{is_one_of("upgrade", named_by_connection(channel.headers())) &&
                   !channel.header("Upgrade").empty() && channel.body_read()},
          answer_{channel.head().method == Method::head ? GuestAnswer::Body::none : GuestAnswer::Body::any,
                  upgrade_ ? GuestAnswer::Upgrade::asked : GuestAnswer::Upgrade::not_asked} {}

    Awaitable<Result<Forwarded>> run() {
        if (auto sent = co_await guest_.write(request_head(channel_, forwarding_, upgrade_)); !sent)
            co_return fail(Errc::unavailable, "the guest closed the connection");
        const auto executor = co_await asio::this_coro::executor;
        auto group =
            asio::experimental::make_parallel_group(asio::co_spawn(executor, receive(), asio::deferred),
                                                    asio::co_spawn(executor, send(), asio::deferred));
        auto [order, thrown, received, send_thrown] =
            co_await group.async_wait(asio::experimental::wait_for_one(), asio::use_awaitable);
        if (order[0] == 1) {
            if (send_thrown) std::rethrow_exception(send_thrown);
            co_return done_;  // the client is gone
        }
        if (thrown) std::rethrow_exception(thrown);
        if (!received && !begun_) co_return fail(std::move(received).error());
        if (received && tunnel_) {
            ChannelDuplex client{channel_};
            if (const std::string behind = answer_.take_rest(); !behind.empty()) {
                if (auto written = co_await channel_.write_raw(behind); !written) co_return done_;
            }
            co_await ingress::tunnel(client, guest_);
        }
        done_.complete = received.has_value() && !tunnel_;
        co_return done_;
    }

  private:
    // The body; then waits for the client to go away. A guest that takes no more may still answer.
    Awaitable<void> send() {
        const bool chunked = !channel_.head().content_length;
        bool taken = true;
        while (!channel_.body_read()) {
            auto piece = co_await channel_.read_piece(true);
            if (!piece) co_return;
            if (piece->empty() || !taken) continue;
            std::string bytes = chunked ? chunk_of(*piece) : std::move(*piece);
            const auto written = co_await guest_.write(std::move(bytes));
            taken = written.has_value();
            if (!taken) break;
        }
        if (taken && chunked && sent_chunks()) (void)co_await guest_.write("0\r\n\r\n");
        if (!channel_.body_read()) {
            asio::steady_timer never{co_await asio::this_coro::executor,
                                     asio::steady_timer::time_point::max()};
            co_await never.async_wait(asio::use_awaitable);
        }
        co_await channel_.client_gone();
    }

    [[nodiscard]] bool sent_chunks() const { return !channel_.header("Transfer-Encoding").empty(); }

    Awaitable<Result<void>> receive() {
        while (true) {
            auto part = answer_.next();
            if (!part) co_return fail(std::move(part).error());
            if (std::holds_alternative<GuestAnswer::NeedMore>(*part)) {
                const auto bytes = co_await guest_.read();
                if (!bytes) co_return fail(bytes.error());
                if (bytes->empty()) {
                    answer_.end();
                } else {
                    answer_.add(*bytes);
                }
            } else if (auto* head = std::get_if<GuestAnswer::Head>(&*part)) {
                auto begun = co_await begin(std::move(*head));
                if (!begun || tunnel_) co_return begun;
            } else if (const auto* piece = std::get_if<GuestAnswer::Piece>(&*part)) {
                auto written = co_await channel_.write(piece->bytes);
                if (!written) co_return written;
            } else {
                co_return co_await channel_.finish();
            }
        }
    }

    Awaitable<Result<void>> begin(GuestAnswer::Head head) {
        begun_ = true;
        done_.status = head.status;
        if (head.status != 101)
            co_return co_await channel_.begin(head.status, std::move(head.lines), head.length);
        tunnel_ = true;
        head.lines.add("Connection", "Upgrade");
        head.lines.add("Upgrade", head.protocol);
        co_return co_await channel_.write_raw("HTTP/1.1 101 Switching Protocols\r\n" + head.lines.text() +
                                              "\r\n");
    }

    HttpChannel& channel_;
    ingress::GuestStream& guest_;
    const Forwarding& forwarding_;
    const bool upgrade_;
    GuestAnswer answer_;
    bool tunnel_ = false;
    bool begun_ = false;  // the answer to the client
    Forwarded done_;
};

}  // namespace

Awaitable<Result<Forwarded>> forward(HttpChannel& channel, ingress::GuestStream& guest,
                                     const Forwarding& forwarding) {
    Proxy proxy{channel, guest, forwarding};
    co_return co_await proxy.run();
}

}  // namespace noid::api
