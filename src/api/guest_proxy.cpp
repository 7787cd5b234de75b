#include "api/guest_proxy.hpp"

#include <algorithm>
#include <array>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http/buffer_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "ingress/tunnel.hpp"

namespace noid::api {

namespace {

namespace beast = boost::beast;
namespace http = beast::http;

constexpr std::size_t max_answer_head = 64 * 1024;
constexpr std::size_t piece_bytes = 64 * 1024;
constexpr int max_interim_answers = 16;

bool same(std::string_view a, std::string_view b) noexcept {
    return beast::iequals({a.data(), a.size()}, {b.data(), b.size()});
}

bool is_one_of(std::string_view name, const auto& names) {
    return std::any_of(names.begin(), names.end(), [&](std::string_view other) { return same(name, other); });
}

std::string_view trimmed(std::string_view text) noexcept {
    while (text.starts_with(' ') || text.starts_with('\t')) text.remove_prefix(1);
    while (text.ends_with(' ') || text.ends_with('\t')) text.remove_suffix(1);
    return text;
}

template <class Visit>
void split(std::string_view list, char separator, Visit visit) {
    while (!list.empty()) {
        const std::size_t end = std::min(list.find(separator), list.size());
        if (const auto item = trimmed(list.substr(0, end)); !item.empty()) visit(item);
        list.remove_prefix(std::min(end + 1, list.size()));
    }
}

// RFC 9110 section 7.6.1, and what frames a message.
constexpr std::array<std::string_view, 11> hop_fields{
    "Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization",
    "TE",         "Trailer",    "Upgrade",          "Transfer-Encoding",  "Content-Length",
    "Expect"};
// What only the server in front of the guest may say.
constexpr std::array<std::string_view, 7> forged_fields{
    "Forwarded",        "X-Forwarded-For",    "X-Forwarded-Proto", "X-Forwarded-Host",
    "X-Forwarded-Port", "X-Forwarded-Server", "X-Real-IP"};

std::vector<std::string> named_by_connection(const std::vector<HeaderField>& fields) {
    std::vector<std::string> names;
    for (const HeaderField& field : fields) {
        if (same(field.name, "Connection"))
            split(field.value, ',', [&](std::string_view name) { names.emplace_back(name); });
    }
    return names;
}

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
        : channel_{channel}, guest_{guest}, forwarding_{forwarding} {}

    Awaitable<Result<Forwarded>> run() {
        upgrade_ = is_one_of("upgrade", named_by_connection(channel_.headers())) &&
                   !channel_.header("Upgrade").empty() && channel_.body_read();
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
            if (!rest_.empty()) {
                if (auto written = co_await channel_.write_raw(rest_); !written) co_return done_;
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
        for (int interim = 0; interim < max_interim_answers; ++interim) {
            auto final_answer = co_await receive_one();
            if (!final_answer) co_return fail(std::move(final_answer).error());
            if (*final_answer) co_return Result<void>{};
        }
        co_return fail(Errc::corrupt, "the guest sends no answer");
    }

    // One answer of the guest; false when it was an interim one, which is not passed on.
    Awaitable<Result<bool>> receive_one() {
        http::response_parser<http::buffer_body> parser;
        parser.header_limit(max_answer_head);
        parser.body_limit(boost::none);
        if (channel_.head().method == Method::head) parser.skip(true);
        while (!parser.is_header_done()) {
            if (auto fed = co_await feed(parser); !fed) co_return fail(std::move(fed).error());
        }
        const unsigned status = parser.get().result_int();
        if (status == 101 && upgrade_) {
            if (auto begun = co_await begin_tunnel(parser); !begun) co_return fail(std::move(begun).error());
            co_return true;
        }
        if (status < 200) {
            if (status == 101)
                co_return fail(Errc::corrupt, "the guest changes a protocol that nobody asked to");
            co_return false;
        }
        std::optional<std::uint64_t> length;
        if (const auto known = parser.content_length()) length = *known;
        begun_ = true;
        done_.status = status;
        auto begun = co_await channel_.begin(status, answer_lines(parser), length);
        if (!begun) co_return fail(std::move(begun).error());
        if (auto copied = co_await copy_body(parser); !copied) co_return fail(std::move(copied).error());
        if (auto finished = co_await channel_.finish(); !finished)
            co_return fail(std::move(finished).error());
        co_return true;
    }

    template <class Parser>
    HeadLines answer_lines(const Parser& parser) const {
        std::vector<HeaderField> fields;
        for (const auto& field : parser.get()) {
            const auto name = field.name_string();
            fields.push_back({{name.data(), name.size()}, {field.value().data(), field.value().size()}});
        }
        const auto hop_by_wish = named_by_connection(fields);
        HeadLines lines;
        for (const auto& [name, value] : fields) {
            if (!is_one_of(name, hop_fields) && !is_one_of(name, hop_by_wish)) lines.add(name, value);
        }
        return lines;
    }

    template <class Parser>
    Awaitable<Result<void>> begin_tunnel(const Parser& parser) {
        HeadLines lines = answer_lines(parser);
        const auto protocol = parser.get()[http::field::upgrade];
        lines.add("Connection", "Upgrade");
        lines.add("Upgrade", {protocol.data(), protocol.size()});
        begun_ = true;
        tunnel_ = true;
        done_.status = 101;
        co_return co_await channel_.write_raw("HTTP/1.1 101 Switching Protocols\r\n" + lines.text() + "\r\n");
    }

    // Gives the parser what is here, or what comes next. corrupt for what is no HTTP.
    template <class Parser>
    Awaitable<Result<void>> feed(Parser& parser) {
        if (rest_.empty() || starved_) {
            auto bytes = co_await guest_.read();
            if (!bytes) co_return fail(std::move(bytes).error());
            if (bytes->empty()) {
                beast::error_code error;
                parser.put_eof(error);
                if (error || !parser.is_header_done())
                    co_return fail(Errc::unavailable, "the guest closed the connection");
                co_return Result<void>{};
            }
            rest_ += *bytes;
        }
        beast::error_code error;
        const std::size_t used = parser.put(asio::buffer(rest_), error);
        rest_.erase(0, used);
        starved_ = error == http::error::need_more;
        if (error && error != http::error::need_more && error != http::error::need_buffer)
            co_return fail(Errc::corrupt, "the guest's answer is no HTTP: " + error.message());
        if (starved_ && rest_.size() > max_answer_head)
            co_return fail(Errc::corrupt, "the guest's answer is no HTTP");
        co_return Result<void>{};
    }

    template <class Parser>
    Awaitable<Result<void>> copy_body(Parser& parser) {
        std::string piece(piece_bytes, '\0');
        while (!parser.is_done()) {
            auto& body = parser.get().body();
            body.data = piece.data();
            body.size = piece.size();
            body.more = true;
            if (auto fed = co_await feed(parser); !fed) co_return fail(std::move(fed).error());
            const std::size_t got = piece.size() - body.size;
            if (auto written = co_await channel_.write({piece.data(), got}); !written)
                co_return fail(std::move(written).error());
        }
        co_return Result<void>{};
    }

    HttpChannel& channel_;
    ingress::GuestStream& guest_;
    const Forwarding& forwarding_;
    std::string rest_;      // of what the guest sent
    bool starved_ = false;  // rest_ is too little for the parser
    bool upgrade_ = false;
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
