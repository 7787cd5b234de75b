#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace noid::api::testing {

struct Answer {
    unsigned status = 0;
    std::map<std::string, std::string> headers;  // names in lower case
    std::string body;
};

// A connection to the server that sends bytes as they are, well-formed or not, and reads answers.
// Blocks; throws when the connection breaks.
class Client {
  public:
    explicit Client(std::uint16_t port);
    explicit Client(const std::filesystem::path& unix_socket);
    ~Client();

    void send(std::string_view bytes);
    // The next answer; nullopt when the server closed the connection instead.
    [[nodiscard]] std::optional<Answer> read_answer(bool head_only = false);
    // At least `count` bytes of what the server sends, fewer at the end of the connection.
    [[nodiscard]] std::string read_raw(std::size_t count);
    // What the server sends next; empty at the end of the connection.
    [[nodiscard]] std::string read_some();
    void close();

  private:
    struct Stream;
    std::unique_ptr<Stream> stream_;
};

}  // namespace noid::api::testing
