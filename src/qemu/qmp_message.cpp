#include "qemu/qmp_message.hpp"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <utility>

namespace noid::qemu {

namespace json = boost::json;

namespace {

std::unexpected<Error> unexpected_message(std::string_view line) {
    constexpr std::size_t shown = 200;
    return fail(Errc::corrupt, "unexpected message from QEMU: " + std::string{line.substr(0, shown)});
}

const json::object* object_in(const json::object& object, std::string_view key) {
    const auto* value = object.if_contains(key);
    return value ? value->if_object() : nullptr;
}

std::string text_in(const json::object& object, std::string_view key) {
    const auto* value = object.if_contains(key);
    const auto* text = value ? value->if_string() : nullptr;
    return text ? std::string{*text} : std::string{};
}

// Our ids are small integers. QEMU answers without one to a line that it could not read.
std::uint64_t id_in(const json::object& object) {
    const auto* value = object.if_contains("id");
    if (!value) return 0;
    const auto* number = value->if_int64();
    return number && *number > 0 ? static_cast<std::uint64_t>(*number) : 0;
}

std::string version_in(const json::object& greeting) {
    const auto* version = object_in(greeting, "version");
    const auto* numbers = version ? object_in(*version, "qemu") : nullptr;
    if (!numbers) return {};
    std::string text;
    for (const auto* part : {"major", "minor", "micro"}) {
        const auto* value = numbers->if_contains(part);
        const auto* number = value ? value->if_int64() : nullptr;
        if (!number) return {};
        if (!text.empty()) text += '.';
        text += std::to_string(*number);
    }
    return text;
}

}  // namespace

Result<QmpMessage> parse_qmp(std::string_view line) {
    if (line.size() > max_qmp_line) return fail(Errc::too_large, "message from QEMU is too long");
    json::error_code error;
    const json::value message = json::parse(line, error);
    const auto* object = error ? nullptr : message.if_object();
    if (!object) return unexpected_message(line);

    if (const auto* greeting = object_in(*object, "QMP")) return QmpGreeting{version_in(*greeting)};
    if (const auto* value = object->if_contains("return")) return QmpReply{id_in(*object), *value};
    if (const auto* failure = object_in(*object, "error"))
        return QmpFailure{id_in(*object), text_in(*failure, "class"), text_in(*failure, "desc")};
    if (auto name = text_in(*object, "event"); !name.empty()) {
        const auto* data = object_in(*object, "data");
        return QmpEvent{std::move(name), data ? *data : json::object{}};
    }
    return unexpected_message(line);
}

std::string format_qmp(std::uint64_t id, std::string_view command, const json::object& arguments) {
    json::object message{{"execute", command}, {"id", id}};
    if (!arguments.empty()) message["arguments"] = arguments;
    return json::serialize(message) + "\n";
}

}  // namespace noid::qemu
