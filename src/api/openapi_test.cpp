#include <gtest/gtest.h>

#include <algorithm>
#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>
#include <set>
#include <string>

#include "api/endpoints.hpp"
#include "api/openapi_document.hpp"

namespace noid::api {
namespace {

// "GET /v1/vms/{name}" for every operation.
std::set<std::string> documented() {
    std::set<std::string> operations;
    const auto document = boost::json::parse(openapi_document());
    for (const auto& [path, item] : document.at("paths").as_object()) {
        for (const auto& [method, operation] : item.as_object()) {
            if (method == "servers") continue;
            std::string name{method};
            std::transform(name.begin(), name.end(), name.begin(),
                           [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
            operations.insert(name + " " + std::string{path});
        }
    }
    return operations;
}

std::set<std::string> served() {
    std::set<std::string> operations;
    for (const auto table : {main_routes(), admin_routes()}) {
        for (const Route& route : table) {
            std::string pattern{route.pattern};
            if (const auto rest = pattern.find("{*"); rest != std::string::npos) pattern.erase(rest + 1, 1);
            operations.insert(std::string{name_of(route.method)} + " " + pattern);
        }
    }
    return operations;
}

TEST(OpenApi, TheDocumentHasEveryRouteAndNoOther) {
    EXPECT_EQ(documented(), served());
}

TEST(OpenApi, EveryReferenceLeadsSomewhere) {
    const auto document = boost::json::parse(openapi_document());
    const auto follow = [&](const auto& self, const boost::json::value& value) -> void {
        if (const auto* array = value.if_array()) {
            for (const auto& element : *array) self(self, element);
        } else if (const auto* object = value.if_object()) {
            for (const auto& [key, member] : *object) {
                if (key != "$ref") {
                    self(self, member);
                    continue;
                }
                boost::json::error_code missing;
                const std::string pointer = std::string{member.as_string()}.substr(1);  // without the '#'
                EXPECT_NE(document.find_pointer(pointer, missing), nullptr) << pointer;
            }
        }
    };
    follow(follow, document);
}

TEST(OpenApi, TheVersionIsThatOfTheServer) {
    const auto document = boost::json::parse(openapi_document());
    EXPECT_EQ(document.at("info").at("version").as_string(), server_version());
}

}  // namespace
}  // namespace noid::api
