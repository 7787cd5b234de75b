#include "cli/console_input.hpp"

#include <utility>

namespace noid::cli {
namespace {

constexpr char escape = 0x1b;
constexpr char wipe_line = 0x15;
constexpr std::size_t longest_line = 64;  // longer than any spelling of "exit" with blanks

std::string_view trimmed(std::string_view text) {
    const auto first = text.find_first_not_of(" \t");
    if (first == std::string_view::npos) return {};
    return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

}  // namespace

ConsoleInput::Typed ConsoleInput::feed(std::string_view typed) {
    Typed out;
    for (const char c : typed) {
        take(c, out);
        if (out.leave) break;
    }
    // A lone Esc is a key of its own: what follows it as a sequence comes in the same read.
    if (escape_ == Escape::begun) {
        out.bytes += std::exchange(sequence_, {});
        escape_ = Escape::none;
    }
    return out;
}

void ConsoleInput::take(char c, Typed& out) {
    if (escape_ == Escape::begun && c == '[') {
        sequence_ += c;
        escape_ = Escape::csi;
        return;
    }
    if (escape_ == Escape::csi) {
        sequence_ += c;
        if (c < 0x40 || c > 0x7e) return;  // parameters
        escape_ = Escape::none;
        const auto sequence = std::exchange(sequence_, {});
        if (sequence == "\x1b[200~" || sequence == "\x1b[201~") {
            pasting_ = sequence == "\x1b[200~";
            return;
        }
        line_known_ = false;
        out.bytes += sequence;
        return;
    }
    if (escape_ == Escape::begun) {
        escape_ = Escape::none;
        line_known_ = false;
        out.bytes += std::exchange(sequence_, {});
    }
    if (c == escape) {
        sequence_ = c;
        escape_ = Escape::begun;
        return;
    }
    if (c == '\n' && pasting_) c = '\r';
    if (c == '\r' && line_known_ && trimmed(line_) == "exit") {
        out.bytes += wipe_line;
        out.leave = true;
        return;
    }
    track(c);
    out.bytes += c;
}

void ConsoleInput::track(char c) {
    if (c == '\r' || c == '\n' || c == 0x03 || c == wipe_line) {
        line_.clear();
        line_known_ = true;
    } else if (c == 0x7f || c == '\b') {
        if (!line_.empty()) line_.pop_back();
    } else if (static_cast<unsigned char>(c) < 0x20 || line_.size() >= longest_line) {
        line_known_ = false;
    } else {
        line_ += c;
    }
}

}  // namespace noid::cli
