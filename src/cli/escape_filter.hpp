#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace noid::cli {

// Finds the user's wish to leave in what is typed at a remote terminal, as ssh does: `~` at the
// start of a line followed by `.` or `d`. `~~` there is one `~`; everything else passes as it is.
class EscapeFilter {
  public:
    struct Typed {
        std::string bytes;   // for the remote side
        bool leave = false;  // what was typed after the wish is dropped
    };
    [[nodiscard]] Typed feed(std::string_view typed);

  private:
    enum class At : std::uint8_t { line_start, tilde, inside } at_ = At::line_start;
};

}  // namespace noid::cli
