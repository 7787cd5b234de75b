#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "base/error.hpp"

namespace noid::cli {

// What the program was started with. Everything that reads variables or looks for files below the
// home or working directory takes one, so that tests make their own.
struct Environment {
    std::function<std::optional<std::string>(const std::string& name)> variable;
    std::filesystem::path working_directory;

    // That of this process. Fails when the working directory is gone.
    [[nodiscard]] static Result<Environment> of_process();

    // The variable's value unless it is unset or empty.
    [[nodiscard]] std::optional<std::string> text(const std::string& name) const;
    // True for 1, true, yes, on in any case.
    [[nodiscard]] bool truthy(const std::string& name) const;
    // `invalid` when HOME is not set.
    [[nodiscard]] Result<std::filesystem::path> home() const;
};

}  // namespace noid::cli
