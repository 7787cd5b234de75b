#include "api/guest_answer.hpp"

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/buffer_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <utility>
#include <vector>

#include "api/hop_fields.hpp"

namespace noid::api {

namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;

constexpr std::size_t max_head = 64 * 1024;
constexpr std::size_t piece_bytes = 64 * 1024;
constexpr int max_interim_answers = 16;

std::unexpected<Error> no_http(const std::string& why) {
    return fail(Errc::corrupt, "the guest's answer is no HTTP" + (why.empty() ? "" : ": " + why));
}

}  // namespace

struct GuestAnswer::Parser : http::response_parser<http::buffer_body> {};

GuestAnswer::GuestAnswer(Body body, Upgrade upgrade)
    : body_{body}, upgrade_{upgrade}, piece_(piece_bytes, '\0') {
    start_parser();
}
GuestAnswer::~GuestAnswer() = default;

void GuestAnswer::start_parser() {
    parser_ = std::make_unique<Parser>();
    parser_->header_limit(max_head);
    parser_->body_limit(boost::none);
    if (body_ == Body::none) parser_->skip(true);
}

void GuestAnswer::add(std::string_view bytes) {
    rest_ += bytes;
    starved_ = false;
}

std::string GuestAnswer::take_rest() {
    return std::exchange(rest_, {});
}

// Gives the parser what is here. False: there is nothing that it could go on with.
Result<bool> GuestAnswer::advance() {
    beast::error_code error;
    if (rest_.empty() || starved_) {
        if (!ended_) return false;
        // Beast takes an end before the first byte for a bug of its caller.
        if (parser_->got_some()) parser_->put_eof(error);
        if (error || !parser_->is_header_done())
            return fail(Errc::unavailable, "the guest closed the connection");
        return true;
    }
    const std::size_t used = parser_->put(asio::buffer(rest_), error);
    rest_.erase(0, used);
    starved_ = error == http::error::need_more;
    if (error && error != http::error::need_more && error != http::error::need_buffer)
        return no_http(error.message());
    if (starved_ && rest_.size() > max_head) return no_http("");
    return true;
}

Result<GuestAnswer::Part> GuestAnswer::next() {
    return has_head_ ? next_of_body() : next_of_head();
}

Result<GuestAnswer::Part> GuestAnswer::next_of_head() {
    while (true) {
        while (!parser_->is_header_done()) {
            const auto advanced = advance();
            if (!advanced) return fail(advanced.error());
            if (!*advanced) return NeedMore{};
        }
        const unsigned status = parser_->get().result_int();
        if (status == 101 && upgrade_ == Upgrade::not_asked)
            return fail(Errc::corrupt, "the guest changes a protocol that nobody asked to");
        if (status >= 200 || status == 101) {
            has_head_ = true;
            return head();
        }
        if (++interim_ >= max_interim_answers) return fail(Errc::corrupt, "the guest sends no answer");
        start_parser();
    }
}

GuestAnswer::Head GuestAnswer::head() const {
    std::vector<HeaderField> fields;
    for (const auto& field : parser_->get()) {
        const auto name = field.name_string();
        fields.push_back({{name.data(), name.size()}, {field.value().data(), field.value().size()}});
    }
    const auto hop_by_wish = named_by_connection(fields);
    Head head;
    head.status = parser_->get().result_int();
    for (const auto& [name, value] : fields)
        if (!is_one_of(name, hop_fields) && !is_one_of(name, hop_by_wish)) head.lines.add(name, value);
    if (const auto known = parser_->content_length()) head.length = *known;
    const auto protocol = parser_->get()[http::field::upgrade];
    head.protocol.assign(protocol.data(), protocol.size());
    return head;
}

Result<GuestAnswer::Part> GuestAnswer::next_of_body() {
    while (!parser_->is_done()) {
        auto& body = parser_->get().body();
        body.data = piece_.data();
        body.size = piece_.size();
        body.more = true;
        const auto advanced = advance();
        if (!advanced) return fail(advanced.error());
        const std::size_t got = piece_.size() - body.size;
        if (got > 0) return Piece{std::string_view{piece_}.substr(0, got)};
        if (!*advanced) return NeedMore{};
    }
    return End{};
}

}  // namespace noid::api
