#include "api/router.hpp"

#include <gtest/gtest.h>

#include <array>

namespace noid::api {
namespace {

Result<Response> nothing(Call&) {
    return Response::no_content();
}

const std::array<Route, 6> routes{{
    {.method = Method::get, .pattern = "/v1/vms", .endpoint = nothing},
    {.method = Method::post, .pattern = "/v1/vms", .endpoint = nothing},
    {.method = Method::get, .pattern = "/v1/vms/{name}", .endpoint = nothing},
    {.method = Method::post, .pattern = "/v1/vms/{name}/exec", .endpoint = nothing},
    {.method = Method::get, .pattern = "/v1/vms/{name}/exec", .endpoint = nothing, .web_socket = true},
    {.method = Method::get, .pattern = "/vms/{*rest}", .endpoint = nothing},
}};
const Router router{routes};

template <class Kind>
std::optional<Kind> routed(Method method, std::string_view path, bool upgrade = false) {
    static Target target;
    target = *Target::parse(path);
    const Routing routing = router.route(method, target, upgrade);
    const auto* kind = std::get_if<Kind>(&routing);
    return kind == nullptr ? std::nullopt : std::optional<Kind>{*kind};
}

TEST(Router, FindsByMethodAndPath) {
    EXPECT_EQ(routed<Match>(Method::get, "/v1/vms")->route, &routes[0]);
    EXPECT_EQ(routed<Match>(Method::post, "/v1/vms?x=1")->route, &routes[1]);
    const auto match = routed<Match>(Method::get, "/v1/vms/we%62");
    ASSERT_TRUE(match);
    EXPECT_EQ(match->route, &routes[2]);
    ASSERT_EQ(match->parameters.size(), 1U);
    EXPECT_EQ(match->parameters[0].first, "name");
    EXPECT_EQ(match->parameters[0].second, "web");
}

TEST(Router, GetAnswersHead) {
    EXPECT_EQ(routed<Match>(Method::head, "/v1/vms")->route, &routes[0]);
}

TEST(Router, TrailingSlashOnlyBehindAParameter) {
    EXPECT_TRUE(routed<Match>(Method::get, "/v1/vms/web/"));
    EXPECT_TRUE(routed<NoSuchPath>(Method::get, "/v1/vms/"));
    EXPECT_TRUE(routed<NoSuchPath>(Method::get, "/v1/vms/web/exec/"));
}

TEST(Router, WrongMethodNamesTheRightOnes) {
    EXPECT_EQ(routed<WrongMethod>(Method::put, "/v1/vms")->allow, "GET, HEAD, POST, OPTIONS");
    EXPECT_EQ(routed<WrongMethod>(Method::delete_, "/v1/vms/web/exec")->allow, "GET, POST, OPTIONS");
    EXPECT_TRUE(routed<NoSuchPath>(Method::get, "/v1"));
    EXPECT_TRUE(routed<NoSuchPath>(Method::get, "/"));
}

TEST(Router, UpgradesHaveRoutesOfTheirOwn) {
    EXPECT_EQ(routed<Match>(Method::get, "/v1/vms/web/exec", true)->route, &routes[4]);
    EXPECT_EQ(routed<NeedsUpgrade>(Method::get, "/v1/vms/web/exec")->route, &routes[4]);
    EXPECT_TRUE(routed<NoSuchPath>(Method::get, "/v1/vms/web", true));
}

TEST(Router, OpenEndTakesTheRest) {
    EXPECT_EQ(routed<Match>(Method::get, "/vms")->route, &routes[5]);
    EXPECT_EQ(routed<Match>(Method::get, "/vms/a/b/")->route, &routes[5]);
}

}  // namespace
}  // namespace noid::api
