#include "cli/failure.hpp"

#include <gtest/gtest.h>

namespace noid::cli {
namespace {

TEST(Failure, IsASentenceOrAnObject) {
    const Error error{Errc::not_found, "VM 'x' not found", {}};
    EXPECT_EQ(describe(error, false), "Error: VM 'x' not found\n");
    EXPECT_EQ(describe(error, true), "{\"error\":\"VM 'x' not found\",\"code\":\"not_found\"}\n");
    EXPECT_EQ(caused_by(error, "cannot start").what, "cannot start\n\nCaused by:\n    VM 'x' not found");
}

TEST(Printable, ShowsWhatATerminalWouldObey) {
    EXPECT_EQ(printable("a\x1b[2Jb\r\n\t\x7f"), "a\\x1b[2Jb\\r\\n\\t\\x7f");
    EXPECT_EQ(printable("\xc2\x9b"
                        "31m"),
              "\\x9b31m");  // a CSI of one character
    EXPECT_EQ(printable("grüße ✓"), "grüße ✓");
}

}  // namespace
}  // namespace noid::cli
