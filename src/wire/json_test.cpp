#include "wire/json.hpp"

#include <gtest/gtest.h>

namespace noid::wire {
namespace {

std::string parse_error(std::string_view text) {
    const auto parsed = parse_json(text);
    return parsed ? "" : parsed.error().what;
}

TEST(ParseJson, SaysWhereTheTextIsWrong) {
    EXPECT_EQ(parse_error(R"({"a":1})"), "");
    EXPECT_EQ(parse_error(" {} \n"), "");
    EXPECT_NE(parse_error("{"), "");
    EXPECT_NE(parse_error(""), "");
    EXPECT_NE(parse_error("{} x").find("after the JSON value"), std::string::npos);
    EXPECT_NE(parse_error(R"({"a":})").find("at byte 5"), std::string::npos) << parse_error(R"({"a":})");
    EXPECT_NE(parse_error("\"\xff\""), "") << "must be UTF-8";
}

TEST(ParseJson, DepthIsBounded) {
    EXPECT_EQ(parse_error(std::string(32, '[') + std::string(32, ']')), "");
    EXPECT_NE(parse_error(std::string(33, '[') + std::string(33, ']')), "");
    EXPECT_NE(parse_error(std::string(1000000, '[')), "");
}

TEST(FieldReader, ReportsTheFirstProblemAndNamesTheField) {
    const auto value =
        parse_json(R"({"text":1,"count":-1,"flag":"yes","list":["a",2],"map":{"k":1},"big":4294967296})");
    const auto problem = [&](auto read) {
        FieldReader fields{*value};
        read(fields);
        const auto done = fields.done();
        return done ? "" : done.error().what;
    };
    std::string text;
    std::uint32_t count = 0;
    bool flag = false;
    std::vector<std::string> list;
    std::map<std::string, std::string> map;
    std::optional<std::int32_t> signed_number;
    EXPECT_EQ(problem([&](auto& f) { f.required("text", text); }), "field 'text' must be a string");
    EXPECT_EQ(problem([&](auto& f) { f.required("count", count); }),
              "field 'count' must be an integer from 0 to 4294967295");
    EXPECT_EQ(problem([&](auto& f) { f.required("big", count); }),
              "field 'big' must be an integer from 0 to 4294967295");
    EXPECT_EQ(problem([&](auto& f) { f.required("flag", flag); }), "field 'flag' must be true or false");
    EXPECT_EQ(problem([&](auto& f) { f.required("list", list); }),
              "field 'list' must be an array of strings");
    EXPECT_EQ(problem([&](auto& f) { f.required("map", map); }), "field 'map' must be an object of strings");
    EXPECT_EQ(problem([&](auto& f) { f.required("none", text); }), "field 'none' is missing");
    EXPECT_EQ(problem([&](auto& f) { f.optional("none", text); }), "");
    EXPECT_EQ(problem([&](auto& f) { f.optional("count", signed_number); }), "");
    EXPECT_EQ(signed_number, -1);
    EXPECT_EQ(problem([&](auto& f) {
                  f.required("none", text);
                  f.required("flag", flag);
              }),
              "field 'none' is missing");
}

TEST(FieldReader, NullIsAbsentForOptionalVariablesOnly) {
    const auto value = parse_json(R"({"a":null})");
    std::optional<std::string> maybe = "before";
    std::uint32_t number = 7;
    FieldReader lenient{*value};
    lenient.optional("a", maybe);
    EXPECT_TRUE(lenient.done());
    EXPECT_EQ(maybe, std::nullopt);
    FieldReader strict{*value};
    strict.optional("a", number);
    EXPECT_FALSE(strict.done());
}

TEST(FieldReader, NeedsAnObject) {
    const auto value = parse_json("[1]");
    FieldReader fields{*value};
    std::string text;
    fields.required("a", text);
    EXPECT_EQ(fields.done().error().what, "expected a JSON object");
}

}  // namespace
}  // namespace noid::wire
