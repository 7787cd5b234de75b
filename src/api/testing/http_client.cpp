#include "api/testing/http_client.hpp"

#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <cctype>

namespace noid::api::testing {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;

struct Client::Stream {
    asio::io_context context;
    asio::generic::stream_protocol::socket socket{context};
    beast::flat_buffer buffer;
};

Client::Client(std::uint16_t port) : stream_{std::make_unique<Stream>()} {
    asio::ip::tcp::socket socket{stream_->context};
    socket.connect({asio::ip::address_v4::loopback(), port});
    stream_->socket = std::move(socket);
}

Client::Client(const std::filesystem::path& unix_socket) : stream_{std::make_unique<Stream>()} {
    asio::local::stream_protocol::socket socket{stream_->context};
    socket.connect(asio::local::stream_protocol::endpoint{unix_socket.string()});
    stream_->socket = std::move(socket);
}

Client::~Client() = default;

void Client::send(std::string_view bytes) {
    asio::write(stream_->socket, asio::buffer(bytes));
}

std::optional<Answer> Client::read_answer(bool head_only) {
    http::response_parser<http::string_body> parser;
    parser.skip(head_only);
    parser.body_limit(boost::none);
    beast::error_code error;
    http::read(stream_->socket, stream_->buffer, parser, error);
    if (error == http::error::end_of_stream) return std::nullopt;
    if (error) throw beast::system_error{error};
    Answer answer;
    answer.status = parser.get().result_int();
    answer.body = std::move(parser.get().body());
    for (const auto& field : parser.get()) {
        std::string name{field.name_string()};
        for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
        answer.headers[name] = std::string{field.value()};
    }
    return answer;
}

std::string Client::read_some() {
    std::string bytes(1 << 16, '\0');
    beast::error_code error;
    bytes.resize(stream_->socket.read_some(asio::buffer(bytes), error));
    return bytes;
}

std::string Client::read_raw(std::size_t count) {
    std::string bytes(count, '\0');
    beast::error_code error;
    bytes.resize(asio::read(stream_->socket, asio::buffer(bytes), error));
    return bytes;
}

void Client::close() {
    stream_->socket.close();
}

}  // namespace noid::api::testing
