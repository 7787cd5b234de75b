#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "api/head_lines.hpp"
#include "base/error.hpp"

namespace noid::api {

// Reads a guest's answer to one request, out of whatever bytes the guest sends: no I/O. The guest is hostile;
// what it can make this hold is bounded: a head of 64 KiB, the last bytes given to add(), one piece of the
// body.
class GuestAnswer {
  public:
    enum class Body : std::uint8_t { any, none };  // none: the request was a HEAD
    enum class Upgrade : std::uint8_t { not_asked, asked };

    GuestAnswer(Body body, Upgrade upgrade);
    ~GuestAnswer();
    GuestAnswer(const GuestAnswer&) = delete;
    GuestAnswer& operator=(const GuestAnswer&) = delete;

    // What has come. Only after next() has given NeedMore.
    void add(std::string_view bytes);
    // Nothing comes any more.
    void end() { ended_ = true; }

    struct NeedMore {};
    struct Head {  // of the final answer; interim ones are left out
        unsigned status = 0;
        HeadLines lines;                      // without fields of one hop
        std::optional<std::uint64_t> length;  // of the body, if the head says so
        std::string protocol;                 // with status 101: what follows is no HTTP; see take_rest()
    };
    struct Piece {
        std::string_view bytes;  // valid until the next call; not empty
    };
    struct End {};
    using Part = std::variant<NeedMore, Head, Piece, End>;
    // A head, the pieces of its body, the end. corrupt for what is no HTTP or was not asked for, unavailable
    // when the guest ended in the middle. Not after a failure, the end, or a head with status 101.
    [[nodiscard]] Result<Part> next();

    // What came behind the answer.
    [[nodiscard]] std::string take_rest();

  private:
    struct Parser;

    Result<bool> advance();
    Result<Part> next_of_head();
    Result<Part> next_of_body();
    [[nodiscard]] Head head() const;
    void start_parser();

    const Body body_;
    const Upgrade upgrade_;
    std::unique_ptr<Parser> parser_;
    std::string rest_;
    std::string piece_;
    int interim_ = 0;
    bool starved_ = false;  // rest_ is too little for the parser
    bool ended_ = false;
    bool has_head_ = false;
};

}  // namespace noid::api
