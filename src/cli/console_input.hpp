#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace noid::cli {

// What is typed at a serial console, on its way to the guest: finds the line `exit` that leaves the
// console, and turns line breaks within pasted text into the Enter key. The terminal marks pasted
// text when bracketed paste is on; the marks themselves are not passed on.
class ConsoleInput {
  public:
    struct Typed {
        std::string bytes;
        bool leave = false;  // `bytes` then ends with Ctrl-U, which wipes the line in the guest
    };
    [[nodiscard]] Typed feed(std::string_view typed);

  private:
    // An escape sequence being read: a key such as an arrow, or a paste mark.
    enum class Escape : std::uint8_t { none, begun, csi };

    void take(char c, Typed& out);
    void track(char c);

    std::string line_;        // as the user sees it, as far as it is known
    bool line_known_ = true;  // no key moved the cursor or completed a word
    std::string sequence_;
    Escape escape_ = Escape::none;
    bool pasting_ = false;
};

}  // namespace noid::cli
