#include <string>
#include <vector>

#include "cli/program.hpp"

int main(int argc, char** argv) {
    return noid::cli::run_program(std::vector<std::string>(argv + 1, argv + argc));
}
