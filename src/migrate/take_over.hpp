#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "migrate/original.hpp"
#include "vm/data_directory.hpp"

namespace noid::migrate {

// What became of one thing of the original.
struct Outcome {
    enum class Kind : std::uint8_t { taken, there_already, left } kind = Kind::taken;
    std::string what;  // "user 'ann'"
    std::string why;   // of `left`: why, and what can be done
};

// The name of the image that golden's disk becomes.
inline constexpr const char* golden_image = "original-golden";

// Brings the original's users, the disks of their checkpoints, and golden's disk into `to`. Saved memory
// stays behind: it holds a guest without our agent, made for another VMM's devices. Can be repeated: what is
// there already stays as it is. Fails only when `to` cannot be used; everything else is an outcome. Blocking.
[[nodiscard]] Result<std::vector<Outcome>> take_over(const Original& original, const vm::DataDirectory& to);

}  // namespace noid::migrate
