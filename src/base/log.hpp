#pragma once

#include <cstdint>
#include <exception>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

// The server's log, on stderr. A line is an event, then key=value; values from outside are escaped, so
// that a line stays one line and a terminal is safe. Thread-safe; writing never blocks the caller: a
// thread of its own writes, and when it falls far behind the oldest lines go first.
namespace noid::log {

enum class Level : std::uint8_t { debug, info, warn, error };
enum class Format : std::uint8_t { text, json };

// Called once, before the first line; without it lines go to stderr as spdlog's defaults have it.
void set_up(Level level, Format format);
// Writes what is queued. Lines after it are lost.
void shut_down();

[[nodiscard]] bool enabled(Level level) noexcept;

using Fields = std::initializer_list<std::pair<std::string_view, std::string_view>>;

void debug(std::string_view event, Fields fields = {});
void info(std::string_view event, Fields fields = {});
void warn(std::string_view event, Fields fields = {});
// Somebody must act.
void error(std::string_view event, Fields fields = {});
// An exception that reached the edge of a task: a bug.
void exception(std::string_view where, const std::exception_ptr& thrown);

// The part of a line after its event: ` key=value key="two words"`.
[[nodiscard]] std::string to_text(Fields fields);
// `text` as the inside of a JSON string.
[[nodiscard]] std::string escape_json(std::string_view text);

}  // namespace noid::log
