#include "cli/escape_filter.hpp"

namespace noid::cli {

EscapeFilter::Typed EscapeFilter::feed(std::string_view typed) {
    Typed out;
    out.bytes.reserve(typed.size() + 1);
    for (const char c : typed) {
        if (at_ == At::line_start && c == '~') {
            at_ = At::tilde;
            continue;
        }
        if (at_ == At::tilde) {
            if (c == '.' || c == 'd') {
                out.leave = true;
                return out;
            }
            out.bytes += '~';
            if (c == '~') {
                at_ = At::inside;
                continue;
            }
        }
        out.bytes += c;
        at_ = c == '\r' || c == '\n' ? At::line_start : At::inside;
    }
    return out;
}

}  // namespace noid::cli
