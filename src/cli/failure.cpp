#include "cli/failure.hpp"

#include <fmt/format.h>

#include <boost/json.hpp>

namespace noid::cli {

Error caused_by(const Error& reason, std::string message) {
    return Error{reason.code, fmt::format("{}\n\nCaused by:\n    {}", message, reason.what), {}};
}

std::string describe(const Error& error, bool json) {
    if (json) {
        return boost::json::serialize(
                   boost::json::object{{"error", error.what}, {"code", name_of(error.code)}}) +
               "\n";
    }
    return fmt::format("Error: {}\n", error.what);
}

std::string printable(std::string_view text) {
    std::string out;
    out.reserve(text.size());
    for (std::size_t i = 0; i < text.size(); ++i) {
        const auto c = static_cast<unsigned char>(text[i]);
        const auto next = i + 1 < text.size() ? static_cast<unsigned char>(text[i + 1]) : 0;
        if (c == '\n') {
            out += "\\n";
        } else if (c == '\t') {
            out += "\\t";
        } else if (c == '\r') {
            out += "\\r";
        } else if (c < 0x20 || c == 0x7f) {
            out += fmt::format("\\x{:02x}", c);
        } else if (c == 0xc2 && next >= 0x80 && next < 0xa0) {
            // The C1 controls, among them a one-character CSI, in their UTF-8 spelling.
            out += fmt::format("\\x{:02x}", next);
            ++i;
        } else {
            out += static_cast<char>(c);
        }
    }
    return out;
}

}  // namespace noid::cli
