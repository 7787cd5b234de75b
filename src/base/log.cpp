#include "base/log.hpp"

#include <fmt/format.h>
#include <spdlog/async.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <iterator>
#include <memory>

namespace noid::log {

namespace {

constexpr std::size_t queue_lines = 8192;

spdlog::level::level_enum to_spdlog(Level level) noexcept {
    switch (level) {
        case Level::debug:
            return spdlog::level::debug;
        case Level::info:
            return spdlog::level::info;
        case Level::warn:
            return spdlog::level::warn;
        case Level::error:
            return spdlog::level::err;
    }
    return spdlog::level::info;
}

void append_value(std::string& line, std::string_view value) {
    const bool plain = !value.empty() && value.find_first_of(" \"=") == std::string_view::npos;
    if (!plain) line.push_back('"');
    for (const char c : value) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte < 0x20 || byte >= 0x7f) {
            fmt::format_to(std::back_inserter(line), "\\x{:02x}", byte);
        } else {
            if (c == '"' || c == '\\') line.push_back('\\');
            line.push_back(c);
        }
    }
    if (!plain) line.push_back('"');
}

// %* in a pattern: the line's text as the inside of a JSON string.
class JsonText final : public spdlog::custom_flag_formatter {
  public:
    void format(const spdlog::details::log_msg& message, const std::tm&, spdlog::memory_buf_t& out) override {
        const std::string text = escape_json({message.payload.data(), message.payload.size()});
        out.append(text.data(), text.data() + text.size());
    }
    [[nodiscard]] std::unique_ptr<custom_flag_formatter> clone() const override {
        return spdlog::details::make_unique<JsonText>();
    }
};

void write(Level level, std::string_view event, Fields fields) {
    if (!enabled(level)) return;
    std::string line{event};
    line += to_text(fields);
    spdlog::default_logger_raw()->log(to_spdlog(level), spdlog::string_view_t{line.data(), line.size()});
}

}  // namespace

void set_up(Level level, Format format) {
    spdlog::init_thread_pool(queue_lines, 1);
    auto logger = std::make_shared<spdlog::async_logger>(
        "noid", std::make_shared<spdlog::sinks::stderr_sink_mt>(), spdlog::thread_pool(),
        spdlog::async_overflow_policy::overrun_oldest);
    auto formatter = std::make_unique<spdlog::pattern_formatter>(spdlog::pattern_time_type::utc);
    if (format == Format::json) {
        formatter->add_flag<JsonText>('*').set_pattern(
            R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ","level":"%l","message":"%*"})");
    } else {
        formatter->set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %l %v");
    }
    logger->set_formatter(std::move(formatter));
    logger->set_level(to_spdlog(level));
    spdlog::set_default_logger(std::move(logger));
}

void shut_down() {
    spdlog::shutdown();
}

bool enabled(Level level) noexcept {
    const spdlog::logger* logger = spdlog::default_logger_raw();
    return logger != nullptr && logger->should_log(to_spdlog(level));
}

void debug(std::string_view event, Fields fields) {
    write(Level::debug, event, fields);
}
void info(std::string_view event, Fields fields) {
    write(Level::info, event, fields);
}
void warn(std::string_view event, Fields fields) {
    write(Level::warn, event, fields);
}
void error(std::string_view event, Fields fields) {
    write(Level::error, event, fields);
}

void exception(std::string_view where, const std::exception_ptr& thrown) {
    try {
        std::rethrow_exception(thrown);
    } catch (const std::exception& caught) {
        error("unexpected exception", {{"in", where}, {"what", caught.what()}});
    } catch (...) {
        error("unexpected exception", {{"in", where}});
    }
}

std::string to_text(Fields fields) {
    std::string text;
    for (const auto& [key, value] : fields) {
        text.push_back(' ');
        text.append(key).push_back('=');
        append_value(text, value);
    }
    return text;
}

std::string escape_json(std::string_view text) {
    std::string out;
    out.reserve(text.size() + 8);
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (c == '"' || c == '\\') {
            out.push_back('\\');
            out.push_back(c);
        } else if (byte < 0x20 || byte == 0x7f) {
            fmt::format_to(std::back_inserter(out), "\\u{:04x}", byte);
        } else {
            out.push_back(c);
        }
    }
    return out;
}

}  // namespace noid::log
