#include "wire/stream.hpp"

#include <boost/json/serialize.hpp>

#include "wire/names.hpp"
#include "wire/signals.hpp"

namespace noid::wire {

namespace {

template <class... Cases>
struct Match : Cases... {
    using Cases::operator()...;
};
template <class... Cases>
Match(Cases...) -> Match<Cases...>;

json::object typed(std::string_view type) {
    json::object out;
    out.emplace("type", type);
    return out;
}

std::string_view name_of(Channel stream) noexcept {
    return stream == Channel::error_output ? "stderr" : "stdout";
}

Channel read_stream(FieldReader& fields) {
    std::string name;
    fields.required("stream", name);
    if (name == "stderr") return Channel::error_output;
    if (name != "stdout") fields.must_be("stream", "\"stdout\" or \"stderr\"");
    return Channel::output;
}

template <class T>
Result<T> checked(const FieldReader& fields, T message) {
    if (auto read = fields.done(); !read) return fail(std::move(read).error());
    return message;
}

WindowSize read_window(FieldReader& fields) {
    WindowSize size;
    fields.required("cols", size.cols);
    fields.required("rows", size.rows);
    if (size.cols == 0 || size.rows == 0) fields.wrong("size must have at least one column and one row");
    return size;
}

SendSignal read_signal(FieldReader& fields) {
    const json::value* member = fields.find("signal");
    if (member != nullptr) {
        std::string text;
        if (member->is_int64()) text = std::to_string(member->get_int64());
        if (member->is_string()) text = member->get_string();
        if (const auto number = parse_signal(text)) return SendSignal{*number};
    }
    fields.must_be("signal", "a signal's name or number");
    return {};
}

}  // namespace

Result<WindowSize> parse_resize(std::string_view payload) {
    if (payload.starts_with('{')) {
        auto value = parse_json(payload);
        if (!value) return fail(std::move(value).error());
        FieldReader fields{*value};
        const WindowSize size = read_window(fields);
        return checked(fields, size);
    }
    if (payload.size() != 4) return fail(Errc::invalid, "resize needs 4 bytes: columns and rows");
    const auto number = [&](std::size_t at) {
        return static_cast<std::uint16_t>((static_cast<unsigned char>(payload[at]) << 8) |
                                          static_cast<unsigned char>(payload[at + 1]));
    };
    const WindowSize size{number(0), number(2)};
    if (size.cols == 0 || size.rows == 0)
        return fail(Errc::invalid, "size must have at least one column and one row");
    return size;
}

std::string resize_payload(WindowSize size) {
    std::string out;
    for (const std::uint16_t number : {size.cols, size.rows}) {
        out.push_back(static_cast<char>(number >> 8));
        out.push_back(static_cast<char>(number & 0xff));
    }
    return out;
}

Result<ClientMessage> parse_client_message(std::string_view text) {
    auto value = parse_json(text);
    if (!value) return fail(std::move(value).error());
    FieldReader fields{*value};
    std::string type;
    fields.required("type", type);
    if (auto read = fields.done(); !read) return fail(std::move(read).error());
    if (type == "stdin_eof") return InputEnd{};
    if (type == "detach") return Detach{};
    if (type == "cancel") return Cancel{};
    if (type == "signal") {
        const SendSignal message = read_signal(fields);
        return checked<ClientMessage>(fields, message);
    }
    if (type == "resize") {
        const Resize message{read_window(fields)};
        return checked<ClientMessage>(fields, message);
    }
    if (type == "ack") {
        Acknowledge message;
        fields.optional("stdout", message.out);
        fields.optional("stderr", message.err);
        return checked<ClientMessage>(fields, message);
    }
    return fail(Errc::invalid, "unknown message type '" + clipped(type, 32) + "'");
}

std::string to_text(const ClientMessage& message) {
    const json::object out = std::visit(Match{
                                            [](const InputEnd&) { return typed("stdin_eof"); },
                                            [](const Detach&) { return typed("detach"); },
                                            [](const Cancel&) { return typed("cancel"); },
                                            [](const SendSignal& m) {
                                                json::object o = typed("signal");
                                                o.emplace("signal", m.number);
                                                return o;
                                            },
                                            [](const Resize& m) {
                                                json::object o = typed("resize");
                                                o.emplace("cols", m.size.cols);
                                                o.emplace("rows", m.size.rows);
                                                return o;
                                            },
                                            [](const Acknowledge& m) {
                                                json::object o = typed("ack");
                                                o.emplace("stdout", m.out);
                                                o.emplace("stderr", m.err);
                                                return o;
                                            },
                                        },
                                        message);
    return json::serialize(out);
}

Result<ServerMessage> parse_server_message(std::string_view text) {
    auto value = parse_json(text);
    if (!value) return fail(std::move(value).error());
    FieldReader fields{*value};
    const auto as_message = [](auto parsed) -> Result<ServerMessage> {
        if (!parsed) return fail(std::move(parsed).error());
        return std::move(*parsed);
    };
    if (fields.find("type") == nullptr) {
        if (fields.find("error") != nullptr) return as_message(ErrorBody::from_json(*value));
        return as_message(ExecResult::from_json(*value));
    }
    std::string type;
    fields.required("type", type);
    if (type == "session") {
        SessionOpened message;
        fields.required("id", message.id);
        fields.optional("pid", message.pid);
        fields.optional("stdout", message.out);
        fields.optional("stderr", message.err);
        fields.optional("stdin", message.input);
        return checked<ServerMessage>(fields, message);
    }
    if (type == "stdin_ack") {
        InputTaken message;
        fields.required("offset", message.offset);
        return checked<ServerMessage>(fields, message);
    }
    if (type == "dropped") {
        OutputDropped message;
        message.stream = read_stream(fields);
        fields.required("bytes", message.bytes);
        return checked<ServerMessage>(fields, message);
    }
    if (type == "eof") {
        const OutputEnd message{read_stream(fields)};
        return checked<ServerMessage>(fields, message);
    }
    return fail(Errc::invalid, "unknown message type '" + clipped(type, 32) + "'");
}

std::string to_text(const ServerMessage& message) {
    const json::object out = std::visit(Match{
                                            [](const SessionOpened& m) {
                                                json::object o = typed("session");
                                                o.emplace("id", m.id);
                                                o.emplace("pid", m.pid);
                                                o.emplace("stdout", m.out);
                                                o.emplace("stderr", m.err);
                                                o.emplace("stdin", m.input);
                                                return o;
                                            },
                                            [](const InputTaken& m) {
                                                json::object o = typed("stdin_ack");
                                                o.emplace("offset", m.offset);
                                                return o;
                                            },
                                            [](const OutputDropped& m) {
                                                json::object o = typed("dropped");
                                                o.emplace("stream", name_of(m.stream));
                                                o.emplace("bytes", m.bytes);
                                                return o;
                                            },
                                            [](const OutputEnd& m) {
                                                json::object o = typed("eof");
                                                o.emplace("stream", name_of(m.stream));
                                                return o;
                                            },
                                            [](const ExecResult& m) { return to_json(m); },
                                            [](const ErrorBody& m) { return to_json(m); },
                                        },
                                        message);
    return json::serialize(out);
}

}  // namespace noid::wire
