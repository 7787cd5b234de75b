#pragma once

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

#include "base/error.hpp"

// The QEMU Machine Protocol, without I/O: one JSON object per line.
namespace noid::qemu {

// A longer line is refused. QEMU's longest answers to our commands are a few KiB.
inline constexpr std::size_t max_qmp_line = 1 << 20;

struct QmpGreeting {
    std::string version;  // "7.2.22"
};
struct QmpReply {
    std::uint64_t id = 0;
    boost::json::value value;
};
struct QmpFailure {
    std::uint64_t id = 0;
    std::string kind;         // "GenericError", "CommandNotFound", ...
    std::string description;  // QEMU's words
};
struct QmpEvent {
    std::string name;  // "SHUTDOWN"
    boost::json::object data;
};
using QmpMessage = std::variant<QmpGreeting, QmpReply, QmpFailure, QmpEvent>;

// One line from QEMU, with or without its line end. corrupt when it is none of the above.
[[nodiscard]] Result<QmpMessage> parse_qmp(std::string_view line);
// One line for QEMU, with its line end.
[[nodiscard]] std::string format_qmp(std::uint64_t id, std::string_view command,
                                     const boost::json::object& arguments);

}  // namespace noid::qemu
