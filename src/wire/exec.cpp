#include "wire/exec.hpp"

#include "wire/base64.hpp"
#include "wire/names.hpp"
#include "wire/utf8.hpp"

namespace noid::wire {

namespace {

constexpr std::uint64_t one_week_ms = 7ULL * 24 * 3600 * 1000;

bool has_nul(std::string_view text) noexcept {
    return text.find('\0') != std::string_view::npos;
}

Encoding read_encoding(FieldReader& fields, std::string_view key) {
    std::string text = "utf8";
    fields.optional(key, text);
    if (text == "base64") return Encoding::base64;
    if (text != "utf8" && text != "utf-8") fields.must_be(key, "\"utf8\" or \"base64\"");
    return Encoding::utf8;
}

void decode(FieldReader& fields, std::string_view key, Encoding encoding, std::string& bytes) {
    if (encoding == Encoding::utf8) return;
    auto decoded = from_base64(bytes);
    if (!decoded) return fields.must_be(key, "valid base64");
    bytes = std::move(*decoded);
}

json::string encode(std::string_view bytes, Encoding encoding, const json::storage_ptr& storage) {
    return json::string(encoding == Encoding::base64 ? to_base64(bytes) : to_utf8(bytes), storage);
}

void read_size(FieldReader& fields, std::optional<WindowSize>& out) {
    const json::value* member = fields.find("size");
    if (member == nullptr || member->is_null()) return;
    FieldReader size{*member};
    WindowSize read;
    size.required("cols", read.cols);
    size.required("rows", read.rows);
    if (auto done = size.done(); !done) return fields.wrong("field 'size': " + done.error().what);
    out = read;
}

void put_exit(json::object& out, const std::optional<std::int32_t>& exit_code) {
    if (exit_code) {
        out.emplace("exit_code", *exit_code);
    } else {
        out.emplace("exit_code", nullptr);
    }
}

}  // namespace

Result<ExecRequest> ExecRequest::from_json(const json::value& value) {
    ExecRequest request;
    FieldReader fields{value};
    fields.required("command", request.command);
    fields.optional("tty", request.tty);
    fields.optional("env", request.env);
    fields.optional("cwd", request.cwd);
    fields.optional("user", request.user);
    fields.optional("stdin", request.input);
    const Encoding input_encoding = read_encoding(fields, "stdin_encoding");
    if (request.input) decode(fields, "stdin", input_encoding, *request.input);
    fields.optional("timeout_ms", request.timeout_ms);
    request.encoding = read_encoding(fields, "encoding");
    fields.optional("separate", request.separate);
    fields.optional("detach", request.detach);
    fields.optional("label", request.label);
    fields.optional("stream_stdin", request.stream_stdin);
    fields.optional("resumable", request.resumable);
    std::string on_disconnect = "cancel";
    fields.optional("on_disconnect", on_disconnect);
    if (on_disconnect == "detach") {
        request.on_disconnect = OnDisconnect::detach;
    } else if (on_disconnect != "cancel") {
        fields.must_be("on_disconnect", "\"cancel\" or \"detach\"");
    }
    fields.optional("hold_ms", request.hold_ms);
    read_size(fields, request.size);
    if (auto read = fields.done(); !read) return fail(std::move(read).error());
    return request;
}

Result<void> ExecRequest::check() const {
    if (command.empty() && !tty) return fail(Errc::invalid, "command cannot be empty");
    if (command.size() > max_command_words)
        return fail(Errc::invalid, "command too long (" + std::to_string(command.size()) + " words, max " +
                                       std::to_string(max_command_words) + ")");
    for (const std::string& word : command) {
        if (has_nul(word)) return fail(Errc::invalid, "command contains a NUL byte");
    }
    if (auto checked = check_env(env); !checked) return checked;
    if (has_nul(cwd) || cwd.size() > 4095 || (!cwd.empty() && cwd.front() != '/'))
        return fail(Errc::invalid, "cwd must be an absolute path");
    if (has_nul(user) || user.size() > 64) return fail(Errc::invalid, "user must be a name or UID[:GID]");
    if (label.size() > 128) return fail(Errc::invalid, "label too long (max 128 bytes)");
    if (timeout_ms && (*timeout_ms == 0 || *timeout_ms > one_week_ms))
        return fail(Errc::invalid, "timeout_ms must be from 1 to " + std::to_string(one_week_ms));
    if (hold_ms && *hold_ms > one_week_ms)
        return fail(Errc::invalid, "hold_ms must be at most " + std::to_string(one_week_ms));
    if (stream_stdin && input) return fail(Errc::invalid, "'stdin' and 'stream_stdin' exclude each other");
    if (size && (size->cols == 0 || size->rows == 0))
        return fail(Errc::invalid, "size must have at least one column and one row");
    return {};
}

json::object to_json(const ExecRequest& request, json::storage_ptr storage) {
    json::object out(storage);
    out.emplace("command", to_json(request.command, storage));
    out.emplace("tty", request.tty);
    out.emplace("env", to_json(request.env, storage));
    if (!request.cwd.empty()) out.emplace("cwd", request.cwd);
    if (!request.user.empty()) out.emplace("user", request.user);
    if (request.input) {
        const bool text = is_utf8(*request.input);
        out.emplace("stdin", encode(*request.input, text ? Encoding::utf8 : Encoding::base64, storage));
        if (!text) out.emplace("stdin_encoding", "base64");
    }
    if (request.timeout_ms) out.emplace("timeout_ms", *request.timeout_ms);
    if (request.encoding == Encoding::base64) out.emplace("encoding", "base64");
    if (request.separate) out.emplace("separate", true);
    if (request.detach) out.emplace("detach", true);
    if (!request.label.empty()) out.emplace("label", request.label);
    if (request.stream_stdin) out.emplace("stream_stdin", true);
    if (request.resumable) out.emplace("resumable", true);
    if (request.on_disconnect == OnDisconnect::detach) out.emplace("on_disconnect", "detach");
    if (request.hold_ms) out.emplace("hold_ms", *request.hold_ms);
    if (request.size) {
        json::object size(storage);
        size.emplace("cols", request.size->cols);
        size.emplace("rows", request.size->rows);
        out.emplace("size", std::move(size));
    }
    return out;
}

Result<ExecResponse> ExecResponse::from_json(const json::value& value) {
    ExecResponse response;
    FieldReader fields{value};
    fields.required("stdout", response.out);
    fields.optional("stderr", response.err);
    fields.optional("exit_code", response.exit_code);
    fields.required("timed_out", response.timed_out);
    fields.required("truncated", response.truncated);
    fields.optional("signal", response.signal);
    const Encoding encoding = read_encoding(fields, "encoding");
    decode(fields, "stdout", encoding, response.out);
    if (response.err) decode(fields, "stderr", encoding, *response.err);
    if (auto read = fields.done(); !read) return fail(std::move(read).error());
    return response;
}

json::object to_json(const ExecResponse& response, Encoding encoding, json::storage_ptr storage) {
    json::object out(storage);
    out.emplace("stdout", encode(response.out, encoding, storage));
    put_exit(out, response.exit_code);
    out.emplace("timed_out", response.timed_out);
    out.emplace("truncated", response.truncated);
    if (response.err) out.emplace("stderr", encode(*response.err, encoding, storage));
    if (response.signal) out.emplace("signal", *response.signal);
    if (encoding == Encoding::base64) out.emplace("encoding", "base64");
    return out;
}

Result<ExecStarted> ExecStarted::from_json(const json::value& value) {
    ExecStarted started;
    FieldReader fields{value};
    fields.required("session", started.session);
    fields.optional("pid", started.pid);
    if (auto read = fields.done(); !read) return fail(std::move(read).error());
    return started;
}

json::object to_json(const ExecStarted& started) {
    json::object out;
    out.emplace("session", started.session);
    out.emplace("pid", started.pid);
    return out;
}

Result<ExecResult> ExecResult::from_json(const json::value& value) {
    ExecResult result;
    FieldReader fields{value};
    fields.optional("exit_code", result.exit_code);
    fields.required("timed_out", result.timed_out);
    fields.required("truncated", result.truncated);
    fields.optional("signal", result.signal);
    if (auto read = fields.done(); !read) return fail(std::move(read).error());
    return result;
}

json::object to_json(const ExecResult& result, json::storage_ptr storage) {
    json::object out(storage);
    put_exit(out, result.exit_code);
    out.emplace("timed_out", result.timed_out);
    out.emplace("truncated", result.truncated);
    if (result.signal) out.emplace("signal", *result.signal);
    return out;
}

Result<SessionInfo> SessionInfo::from_json(const json::value& value) {
    SessionInfo session;
    FieldReader fields{value};
    fields.required("id", session.id);
    fields.required("kind", session.kind);
    fields.optional("command", session.command);
    fields.optional("label", session.label);
    fields.optional("pid", session.pid);
    fields.optional("tty", session.tty);
    fields.optional("attached", session.attached);
    fields.optional("started_unix", session.started_unix);
    fields.optional("stdout_bytes", session.stdout_bytes);
    fields.optional("stderr_bytes", session.stderr_bytes);
    fields.optional("stdout_dropped", session.stdout_dropped);
    fields.optional("stderr_dropped", session.stderr_dropped);
    if (const json::value* ended = fields.find("ended"); ended != nullptr && !ended->is_null()) {
        auto result = ExecResult::from_json(*ended);
        if (!result) return fail(std::move(result).error().at("field 'ended'"));
        session.ended = *result;
    }
    if (auto read = fields.done(); !read) return fail(std::move(read).error());
    return session;
}

json::object to_json(const SessionInfo& session, json::storage_ptr storage) {
    json::object out(storage);
    out.emplace("id", session.id);
    out.emplace("kind", to_utf8(session.kind));
    out.emplace("command", to_utf8(session.command));
    out.emplace("label", to_utf8(session.label));
    out.emplace("pid", session.pid);
    out.emplace("tty", session.tty);
    out.emplace("attached", session.attached);
    out.emplace("started_unix", session.started_unix);
    out.emplace("stdout_bytes", session.stdout_bytes);
    out.emplace("stderr_bytes", session.stderr_bytes);
    out.emplace("stdout_dropped", session.stdout_dropped);
    out.emplace("stderr_dropped", session.stderr_dropped);
    if (session.ended) {
        out.emplace("ended", to_json(*session.ended, storage));
    } else {
        out.emplace("ended", nullptr);
    }
    return out;
}

}  // namespace noid::wire
