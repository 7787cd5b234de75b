// A guest's HTTP answer: any bytes, in any pieces, are read in the same way, and what is kept of them is
// bounded.
#include "api/guest_answer.hpp"

#include <optional>
#include <string>

#include "input.hpp"

using namespace noid;
using api::GuestAnswer;

namespace {

struct Reading {
    unsigned status = 0;
    std::string lines;
    std::string body;
    std::optional<Errc> error;
    bool operator==(const Reading&) const = default;
};

Reading read(std::string_view bytes, std::size_t step, GuestAnswer::Body body, GuestAnswer::Upgrade upgrade) {
    GuestAnswer answer{body, upgrade};
    Reading reading;
    while (true) {
        auto part = answer.next();
        if (!part) {
            reading.error = part.error().code;
            return reading;
        }
        if (auto* head = std::get_if<GuestAnswer::Head>(&*part)) {
            fuzz::require(reading.status == 0, "two heads");
            reading.status = head->status;
            reading.lines = head->lines.text();
            fuzz::require(head->status >= 200 || head->status == 101, "an interim answer");
            fuzz::require(reading.lines.size() <= 192 * 1024, "a head that is too long");
            if (head->status == 101) {
                fuzz::require(upgrade == GuestAnswer::Upgrade::asked, "an upgrade that nobody asked for");
                return reading;
            }
        } else if (const auto* piece = std::get_if<GuestAnswer::Piece>(&*part)) {
            fuzz::require(reading.status != 0, "a body without a head");
            fuzz::require(!piece->bytes.empty() && piece->bytes.size() <= 64 * 1024,
                          "a piece of another size");
            reading.body += piece->bytes;
        } else if (std::holds_alternative<GuestAnswer::End>(*part)) {
            fuzz::require(reading.status != 0, "an end without a head");
            return reading;
        } else if (bytes.empty()) {
            answer.end();
        } else {
            answer.add(bytes.substr(0, step));
            bytes.remove_prefix(std::min(step, bytes.size()));
        }
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input input{data, size};
    const auto choice = input.number<std::uint8_t>();
    const auto body = (choice & 1) != 0 ? GuestAnswer::Body::none : GuestAnswer::Body::any;
    const auto upgrade = (choice & 2) != 0 ? GuestAnswer::Upgrade::asked : GuestAnswer::Upgrade::not_asked;
    const std::size_t step = 1 + input.number<std::uint8_t>();
    const std::string_view bytes = input.all();
    const Reading whole = read(bytes, bytes.size() + 1, body, upgrade);
    const Reading pieces = read(bytes, step, body, upgrade);
    // Beast finds a wrong start line at once, or waits for the end of the head: which, depends on the pieces,
    // and so does whether the words are that it is no HTTP or that its end is missing.
    fuzz::require(whole.error.has_value() == pieces.error.has_value(),
                  "the pieces in which it comes decide whether it is right");
    // Before an error some of a body may have been given on already.
    fuzz::require(whole.error || whole == pieces, "the pieces in which it comes matter");
    return 0;
}
