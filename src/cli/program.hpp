#pragma once

#include <string>
#include <vector>

namespace noid::cli {

// The whole client: parses the arguments after the program's name, runs the command and gives the
// process's exit code.
[[nodiscard]] int run_program(std::vector<std::string> arguments);

}  // namespace noid::cli
