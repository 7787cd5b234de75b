// The API over real sockets, in front of an engine without machines.
#include "api/server.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <boost/asio/use_future.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>
#include <future>
#include <optional>
#include <set>
#include <thread>
#include <vector>

#include "api/testing/fake_engine.hpp"
#include "api/testing/http_client.hpp"
#include "base/temporary_directory.hpp"

namespace noid::api {
namespace {

using namespace std::chrono_literals;
using testing::Answer;
using testing::Client;
using testing::FakeEngine;

const std::string ann = FakeEngine::token_of("ann");
const std::string bob = FakeEngine::token_of("bob");

class ApiTest : public ::testing::Test {
  protected:
    ApiTest() : directory_{TemporaryDirectory::create().value()} {
        config_.server.listen = "127.0.0.1:0";
        config_.paths.data_dir = directory_.path();
        config_.server.timeout = 300ms;
        config_.server.exec_timeout = 1s;
        config_.limits.max_body_bytes = 4096;
        server_ = ApiServer::create(loop_, engine_, config_).value();
        for (int i = 0; i < 2; ++i) threads_.emplace_back([this] { loop_.run(); });
        start();
    }
    ~ApiTest() override {
        stop();
        work_.reset();
        threads_.clear();
    }

    void start() { asio::co_spawn(loop_, server_->start(), asio::use_future).get(); }

    void stop() {
        if (std::exchange(stopped_, true)) return;
        asio::co_spawn(loop_, server_->stop(5s), asio::use_future).get();
    }

    [[nodiscard]] Client connect() const { return Client{server_->port()}; }

    // One request on a connection of its own; `token` empty sends none.
    Answer ask(std::string_view method, std::string_view path, std::string_view body = {},
               const std::string& token = ann, std::string_view headers = {}) {
        Client client = connect();
        client.send(request(method, path, body, token, headers));
        auto answer = client.read_answer(method == "HEAD");
        if (!answer) throw std::runtime_error{"the server closed the connection"};
        return *answer;
    }

    static std::string request(std::string_view method, std::string_view path, std::string_view body = {},
                               const std::string& token = ann, std::string_view headers = {}) {
        const std::string credentials = token.empty() ? "" : "Authorization: Bearer " + token + "\r\n";
        return fmt::format("{} {} HTTP/1.1\r\nHost: test\r\n{}{}Content-Length: {}\r\n\r\n{}", method, path,
                           credentials, headers, body.size(), body);
    }

    static std::string code(const Answer& answer) {
        const auto body = boost::json::parse(answer.body);
        EXPECT_EQ(body.at("request_id").as_string(), answer.headers.at("x-request-id"));
        EXPECT_FALSE(body.at("error").as_string().empty());
        return std::string{body.at("code").as_string()};
    }
    static std::string error(const Answer& answer) {
        return std::string{boost::json::parse(answer.body).at("error").as_string()};
    }

    void create(std::string_view name, const std::string& token = ann, std::string_view more = {}) {
        const Answer answer = ask("POST", "/v1/vms", fmt::format(R"({{"name":"{}"{}}})", name, more), token);
        ASSERT_EQ(answer.status, 201U) << answer.body;
    }

    static std::vector<std::string> names(const Answer& answer) {
        std::vector<std::string> names;
        const auto list = boost::json::parse(answer.body);
        for (const auto& vm : list.as_array()) names.emplace_back(vm.at("name").as_string());
        return names;
    }

    // Waits for what another thread is about to make true.
    template <class Condition>
    static bool becomes_true(Condition condition) {
        const auto limit = std::chrono::steady_clock::now() + 10s;
        while (!condition()) {
            if (std::chrono::steady_clock::now() > limit) return false;
            std::this_thread::yield();
        }
        return true;
    }

    TemporaryDirectory directory_;
    config::ServerConfig config_;
    asio::io_context loop_;
    asio::executor_work_guard<asio::io_context::executor_type> work_{loop_.get_executor()};
    FakeEngine engine_{loop_};
    std::unique_ptr<ApiServer> server_;
    bool stopped_ = false;
    std::vector<std::jthread> threads_;
};

TEST_F(ApiTest, AnybodyMayAskForHealthAndVersion) {
    for (const char* path : {"/health", "/healthz"}) {
        const Answer answer = ask("GET", path, {}, {});
        EXPECT_EQ(answer.status, 200U);
        EXPECT_EQ(answer.body, R"({"status":"ok"})");
        EXPECT_EQ(answer.headers.at("x-noid-api-version"), "1");
        EXPECT_EQ(answer.headers.at("content-type"), "application/json");
    }
    EXPECT_EQ(boost::json::parse(ask("GET", "/version", {}, {}).body).at("api_version").as_int64(), 1);
    EXPECT_EQ(boost::json::parse(ask("GET", "/openapi.json", {}, {}).body).at("openapi").as_string(),
              "3.1.0");
}

TEST_F(ApiTest, EverythingElseNeedsAValidToken) {
    for (const char* path : {"/v1/whoami", "/v1/vms", "/v1/vms/x", "/metrics", "/nowhere", "/healthz/"}) {
        const Answer answer = ask("GET", path, {}, {});
        EXPECT_EQ(answer.status, 401U) << path;
        EXPECT_EQ(code(answer), "unauthenticated");
        EXPECT_EQ(error(answer), "missing or invalid Authorization header");
        EXPECT_EQ(answer.headers.at("www-authenticate"), "Bearer");
    }
    const Answer wrong = ask("GET", "/v1/whoami", {}, std::string(64, 'f'));
    EXPECT_EQ(wrong.status, 401U);
    EXPECT_EQ(error(wrong), "invalid token");
    EXPECT_EQ(ask("GET", "/v1/whoami").body, R"({"user_id":"id-of-ann","name":"ann"})");
}

TEST_F(ApiTest, GuessingIsSlowedDown) {
    for (int i = 0; i < 10; ++i)
        EXPECT_EQ(ask("GET", "/v1/whoami", {}, fmt::format("{:064}", i)).status, 401U);
    const Answer blocked = ask("GET", "/v1/whoami");
    EXPECT_EQ(blocked.status, 429U);
    EXPECT_EQ(code(blocked), "rate_limited");
    EXPECT_GT(std::stoi(blocked.headers.at("retry-after")), 0);
}

TEST_F(ApiTest, AnotherUsersVmIsAsUnknownAsNone) {
    create("secret", bob);
    for (const char* method : {"GET", "POST"}) {
        const std::string_view body = method[0] == 'P' ? R"({"command":["id"]})" : "";
        const std::string_view tail = method[0] == 'P' ? "/exec" : "";
        const Answer foreign = ask(method, fmt::format("/v1/vms/secret{}", tail), body);
        EXPECT_EQ(foreign.status, 404U);
        EXPECT_EQ(error(foreign), "VM 'secret' not found");
        EXPECT_EQ(error(ask(method, fmt::format("/v1/vms/nothing{}", tail), body)), "VM 'nothing' not found");
    }
    EXPECT_EQ(ask("DELETE", "/v1/vms/secret").status, 204U);
    EXPECT_EQ(ask("GET", "/v1/vms/secret", {}, bob).status, 200U);
    EXPECT_EQ(ask("GET", "/v1/vms").body, "[]");
}

TEST_F(ApiTest, WrongPathsAndMethods) {
    EXPECT_EQ(ask("GET", "/v1/nothing").status, 404U);
    EXPECT_EQ(ask("GET", "/v1/whoami/").status, 404U);
    EXPECT_EQ(error(ask("GET", "/v1/vms/")), "missing VM name in path");
    EXPECT_EQ(error(ask("GET", "/v1/vms/..x")), "invalid VM name");
    EXPECT_EQ(ask("GET", "/v1/vms/%zz").status, 400U);
    const Answer wrong = ask("PUT", "/v1/vms");
    EXPECT_EQ(wrong.status, 405U);
    EXPECT_EQ(wrong.headers.at("allow"), "GET, HEAD, POST, OPTIONS");
    const Answer options = ask("OPTIONS", "/v1/vms");
    EXPECT_EQ(options.status, 204U);
    EXPECT_EQ(options.headers.at("allow"), "GET, HEAD, POST, OPTIONS");
    create("web");
    EXPECT_EQ(ask("GET", "/v1/vms/web/").status, 200U) << "a slash behind the name is ignored";
    const Answer upgrade = ask("GET", "/v1/vms/web/exec");
    EXPECT_EQ(upgrade.status, 426U);
    EXPECT_EQ(error(upgrade), "WebSocket upgrade required for GET /exec");
    const Answer moved = ask("GET", "/vms/web?x=a%20b");
    EXPECT_EQ(moved.status, 308U);
    EXPECT_EQ(moved.headers.at("location"), "/v1/vms/web?x=a%20b");
}

TEST_F(ApiTest, MalformedRequestsAreToldWhy) {
    const auto answer_to = [&](std::string_view bytes) {
        Client client = connect();
        client.send(bytes);
        auto answer = client.read_answer();
        EXPECT_EQ(client.read_answer(), std::nullopt) << "no request is guessed behind a malformed one";
        return answer->status;
    };
    EXPECT_EQ(answer_to("nonsense\r\n\r\n"), 400U);
    EXPECT_EQ(answer_to("GET / HTTP/9.9\r\n\r\n"), 400U);
    EXPECT_EQ(answer_to("GET / HTTP/1.1\r\nA: " + std::string(40 * 1024, 'a') + "\r\n\r\n"), 431U);
    EXPECT_EQ(answer_to(request("GET", "no-slash", {}, ann, "Connection: close\r\n")), 400U);
    EXPECT_EQ(
        answer_to(request("POST", "/v1/vms", "x", ann, "Content-Encoding: gzip\r\nConnection: close\r\n")),
        415U);
    EXPECT_EQ(answer_to(request("POST", "/v1/vms", "x", ann, "Expect: magic\r\nConnection: close\r\n")),
              417U);
}

TEST_F(ApiTest, MalformedBodies) {
    for (const char* body :
         {"", "{", "[]", "null", R"({"name":7})", R"({"name":"a","cpus":"two"})",
          R"({"name":"a","cpus":null})", R"({"name":"a","cpus":-1})", R"({"name":"a"} x)"}) {
        const Answer answer = ask("POST", "/v1/vms", body);
        EXPECT_EQ(answer.status, 400U) << body;
        EXPECT_EQ(code(answer), "invalid");
        EXPECT_TRUE(error(answer).starts_with("invalid request body")) << error(answer);
    }
    EXPECT_EQ(error(ask("POST", "/v1/vms", R"({"name":"-a"})")), "VM name cannot start with . or -");
    EXPECT_EQ(error(ask("POST", "/v1/vms", R"({"name":""})")), "VM name cannot be empty");
    create("web");
    EXPECT_EQ(error(ask("POST", "/v1/vms/web/exec", R"({"command":[]})")), "command cannot be empty");
    EXPECT_EQ(error(ask("POST", "/v1/vms/web/exec", R"({"command":["a"],"env":["X"]})")),
              "invalid env var (expected KEY=VALUE): X");
    EXPECT_EQ(ask("POST", "/v1/vms/web/exec", R"({"command":["a\u0000b"]})").status, 400U);
}

TEST_F(ApiTest, OversizedBodiesAreRefused) {
    const std::string large(8192, 'x');
    EXPECT_EQ(ask("POST", "/v1/vms", large).status, 413U);
    Client client = connect();
    client.send("POST /v1/vms HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer " + ann +
                "\r\nTransfer-Encoding: chunked\r\n\r\n2000\r\n" + large + "\r\n0\r\n\r\n");
    EXPECT_EQ(client.read_answer()->status, 413U) << "and without knowing the length before";
}

TEST_F(ApiTest, ABodyThatDoesNotArriveTimesOut) {
    Client client = connect();
    client.send("POST /v1/vms HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer " + ann +
                "\r\nContent-Length: 100\r\n\r\n{");
    const auto answer = client.read_answer();
    EXPECT_EQ(answer->status, 408U);
    EXPECT_EQ(code(*answer), "timed_out");
}

TEST_F(ApiTest, ConnectionsAreKeptAndRequestsMayBePipelined) {
    Client client = connect();
    client.send(request("GET", "/v1/whoami") + request("GET", "/v1/nothing") + request("GET", "/health"));
    EXPECT_EQ(client.read_answer()->status, 200U);
    EXPECT_EQ(client.read_answer()->status, 404U);
    EXPECT_EQ(client.read_answer()->status, 200U);
    client.send(request("HEAD", "/v1/vms"));
    const auto head = client.read_answer(true);
    EXPECT_EQ(head->headers.at("content-length"), "2");
    client.send(request("GET", "/health", {}, {}, "Connection: close\r\n"));
    EXPECT_EQ(client.read_answer()->headers.at("connection"), "close");
    EXPECT_EQ(client.read_answer(), std::nullopt);
}

TEST_F(ApiTest, ABugCostsOneRequest) {
    Client client = connect();
    client.send(request("POST", "/v1/vms", R"({"name":"bug"})"));
    const auto answer = client.read_answer();
    EXPECT_EQ(answer->status, 500U);
    EXPECT_EQ(error(*answer), "internal error") << "and tells nothing of the inside";
    client.send(request("GET", "/v1/whoami"));
    EXPECT_EQ(client.read_answer()->status, 200U);
}

TEST_F(ApiTest, CreateIsRepeatableWithAKey) {
    const std::string_view body = R"({"name":"web","cpus":2,"mem_mib":512})";
    const Answer first = ask("POST", "/v1/vms", body, ann, "Idempotency-Key: k1\r\n");
    EXPECT_EQ(first.status, 201U);
    EXPECT_FALSE(first.headers.contains("idempotent-replayed"));
    const Answer again = ask("POST", "/v1/vms", body, ann, "Idempotency-Key: k1\r\n");
    EXPECT_EQ(again.status, 201U);
    EXPECT_EQ(again.headers.at("idempotent-replayed"), "true");
    EXPECT_EQ(names(ask("GET", "/v1/vms")), std::vector<std::string>{"web"});
    const Answer other = ask("POST", "/v1/vms", body);
    EXPECT_EQ(other.status, 409U);
    EXPECT_EQ(error(other), "VM 'web' already exists");
    EXPECT_EQ(ask("POST", "/v1/vms", R"({"name":"a","idempotency_key":"k2"})", ann, "Idempotency-Key: k3\r\n")
                  .status,
              400U);
}

TEST_F(ApiTest, PagesShowEveryVmOnce) {
    for (const char* name : {"e", "d", "c", "b", "a"}) create(name);
    std::set<std::string> seen;
    std::string path = "/v1/vms?limit=2";
    std::size_t pages = 0;
    while (!path.empty()) {
        const Answer page = ask("GET", path);
        ASSERT_EQ(page.status, 200U);
        for (const std::string& name : names(page)) EXPECT_TRUE(seen.insert(name).second) << name;
        const auto next = page.headers.find("x-next-cursor");
        path = next == page.headers.end() ? "" : "/v1/vms?limit=2&cursor=" + next->second;
        ++pages;
    }
    EXPECT_EQ(pages, 3U);
    EXPECT_EQ(seen.size(), 5U);
    EXPECT_EQ(names(ask("GET", "/v1/vms")).size(), 5U);
}

TEST_F(ApiTest, ListsAreFiltered) {
    create("web-1", ann, R"(,"labels":{"tier":"web"})");
    create("web-2", ann, R"(,"labels":{"tier":"web","old":"1"})");
    create("db", ann, R"(,"labels":{"tier":"db"})");
    using Names = std::vector<std::string>;
    EXPECT_EQ(names(ask("GET", "/v1/vms?label=tier=web")), (Names{"web-1", "web-2"}));
    EXPECT_EQ(names(ask("GET", "/v1/vms?label=tier=web&label=old=1")), Names{"web-2"});
    EXPECT_EQ(names(ask("GET", "/v1/vms?prefix=d")), Names{"db"});
    EXPECT_EQ(names(ask("GET", "/v1/vms?state=stopped")), Names{});
    for (const char* query :
         {"label=x", "label==x", "state=tired", "limit=0", "limit=x", "cursor=x", "cursor=1.-"})
        EXPECT_EQ(ask("GET", fmt::format("/v1/vms?{}", query)).status, 400U) << query;
}

TEST_F(ApiTest, ExecAnswers) {
    create("web");
    const auto run = [&](std::string_view body) { return ask("POST", "/v1/vms/web/exec", body).body; };
    EXPECT_EQ(run(R"({"command":["echo","hi"],"tty":false,"env":[]})"),
              R"({"stdout":"hihi","exit_code":0,"timed_out":false,"truncated":false})")
        << "both streams in one, as existing clients know it";
    const auto separate = boost::json::parse(run(R"({"command":["echo","hi"],"separate":true})"));
    EXPECT_EQ(separate.at("stdout").as_string(), "hi");
    EXPECT_EQ(separate.at("stderr").as_string(), "hi");
    EXPECT_EQ(boost::json::parse(run(R"({"command":["exit","3"]})")).at("exit_code").as_int64(), 3);
    EXPECT_EQ(boost::json::parse(run(R"({"command":["cat"],"stdin":"in"})")).at("stdout").as_string(), "in");
    EXPECT_EQ(boost::json::parse(run(R"({"command":["echo","hi"],"encoding":"base64","separate":true})"))
                  .at("stdout")
                  .as_string(),
              "aGk=");
    const auto missing = boost::json::parse(run(R"({"command":["missing"]})"));
    EXPECT_EQ(missing.at("exit_code").as_int64(), 127);
    const auto late = boost::json::parse(run(R"({"command":["sleep"],"timeout_ms":50})"));
    EXPECT_TRUE(late.at("timed_out").as_bool());
    EXPECT_TRUE(late.at("exit_code").is_null());
    const auto endless = boost::json::parse(run(R"({"command":["yes"],"timeout_ms":300})"));
    EXPECT_TRUE(endless.at("truncated").as_bool());
    EXPECT_EQ(endless.at("stdout").as_string().size(), 1048576U);
    EXPECT_TRUE(becomes_true([&] { return engine_.witness().sessions == 0; }));
}

TEST_F(ApiTest, CheckpointsAreMadeFoundAndRemoved) {
    create("web");
    const std::string_view base = "/v1/vms/web/checkpoints";
    EXPECT_EQ(ask("GET", base).body, "[]");
    EXPECT_EQ(ask("GET", "/v1/vms/nobody/checkpoints").body, "[]") << "as existing clients know it";
    EXPECT_EQ(ask("POST", "/v1/vms/nobody/checkpoints").status, 404U);
    const Answer made = ask("POST", base, R"({"label":"before the update","name":"v1"})");
    EXPECT_EQ(made.status, 201U);
    const auto view = boost::json::parse(made.body);
    EXPECT_EQ(view.at("label").as_string(), "before the update");
    EXPECT_EQ(view.at("vm_name").as_string(), "web");
    EXPECT_TRUE(boost::json::parse(ask("POST", base).body).at("label").is_null()) << "a body is not needed";
    EXPECT_EQ(boost::json::parse(ask("GET", base).body).as_array().size(), 2U);
    EXPECT_EQ(boost::json::parse(ask("GET", fmt::format("{}/v1", base)).body).at("id"), view.at("id"));
    EXPECT_EQ(ask("PATCH", fmt::format("{}/v1", base), R"({"label":""})").status, 200U);
    EXPECT_TRUE(boost::json::parse(ask("GET", fmt::format("{}/v1", base)).body).at("label").is_null());
    EXPECT_EQ(ask("PATCH", fmt::format("{}/v1", base), "{}").status, 400U);
    EXPECT_EQ(ask("DELETE", fmt::format("{}/v1", base)).status, 204U);
    EXPECT_EQ(error(ask("DELETE", fmt::format("{}/v1", base))), "checkpoint 'v1' not found");
    EXPECT_EQ(ask("POST", fmt::format("{}/prune", base), "{}").status, 400U);
    const Answer pruned = ask("POST", fmt::format("{}/prune", base), R"({"keep":0})");
    EXPECT_EQ(boost::json::parse(pruned.body).as_array().size(), 1U);
}

TEST_F(ApiTest, RestoreAndForkAnswerWithVms) {
    create("web");
    ask("POST", "/v1/vms/web/checkpoints", R"({"name":"v1"})");
    const Answer back = ask("POST", "/v1/vms/web/restore", R"({"checkpoint_id":"v1"})");
    EXPECT_EQ(back.status, 200U) << back.body;
    EXPECT_EQ(boost::json::parse(back.body).at("origin").as_string(), "0000000000000001");
    EXPECT_TRUE(boost::json::parse(back.body).as_object().contains("kept"));
    const Answer lost =
        ask("POST", "/v1/vms/web/restore", R"({"checkpoint_id":"v1","new_name":null,"keep_present":false})");
    EXPECT_FALSE(boost::json::parse(lost.body).as_object().contains("kept"));
    const Answer clone = ask("POST", "/v1/vms/web/restore", R"({"checkpoint_id":"v1","new_name":"twin"})");
    EXPECT_EQ(boost::json::parse(clone.body).at("name").as_string(), "twin");
    EXPECT_EQ(ask("POST", "/v1/vms/web/restore", R"({"checkpoint_id":"v1","new_name":".x"})").status, 400U);
    EXPECT_EQ(error(ask("POST", "/v1/vms/web/restore", R"({"checkpoint_id":"ffff"})")),
              "checkpoint 'ffff' not found");
    EXPECT_EQ(names(ask("POST", "/v1/vms/web/fork", R"({"count":2})")),
              (std::vector<std::string>{"web-1", "web-2"}));
    EXPECT_EQ(names(ask("POST", "/v1/vms/web/fork", R"({"names":["a","b"]})")),
              (std::vector<std::string>{"a", "b"}));
    EXPECT_EQ(ask("POST", "/v1/vms/web/fork", R"({"names":["a"],"count":2})").status, 400U);
}

TEST_F(ApiTest, CheckpointsTravelAsStreams) {
    create("web");
    ask("POST", "/v1/vms/web/checkpoints", R"({"label":"abc"})");
    const Answer exported = ask("GET", "/v1/vms/web/checkpoints/0000000000000001/export");
    EXPECT_EQ(exported.status, 200U);
    EXPECT_EQ(exported.body, "abcabcabcabc");
    const Answer imported = ask("POST", "/v1/vms/other/checkpoints/import?name=x", "stream");
    EXPECT_EQ(imported.status, 201U);
    EXPECT_EQ(boost::json::parse(imported.body).at("label").as_string(), "stream");
    const Answer broken = ask("POST", "/v1/vms/other/checkpoints/import", "broken");
    EXPECT_EQ(broken.status, 502U);
    EXPECT_EQ(code(broken), "corrupt");
}

TEST_F(ApiTest, PoliciesAreKept) {
    create("web");
    EXPECT_EQ(ask("GET", "/v1/vms/web/policy").body,
              R"({"checkpoint_every_s":null,"checkpoint_keep":10,"idle_suspend_s":null})");
    const std::string_view wanted = R"({"checkpoint_every_s":300,"checkpoint_keep":3,"idle_suspend_s":600})";
    EXPECT_EQ(ask("PUT", "/v1/vms/web/policy", wanted).body, wanted);
    EXPECT_EQ(ask("GET", "/v1/vms/web/policy").body, wanted);
    EXPECT_EQ(ask("PUT", "/v1/vms/web/policy", R"({"idle_suspend_s":-1})").status, 400U);
}

TEST_F(ApiTest, AClientThatLeavesTakesItsCommandAlong) {
    create("web");
    Client client = connect();
    client.send(request("POST", "/v1/vms/web/exec", R"({"command":["sleep"],"timeout_ms":3600000})"));
    ASSERT_TRUE(becomes_true([&] { return engine_.witness().read_from == 2; }));
    client.close();
    EXPECT_TRUE(becomes_true([&] { return engine_.witness().sessions == 0; }));
    EXPECT_EQ(engine_.witness().cancelled, 1);
}

TEST_F(ApiTest, LogsFollowUntilTheReaderLeaves) {
    create("web");
    EXPECT_EQ(ask("GET", "/v1/vms/web/logs").body, "booted\n");
    Client client = connect();
    client.send(request("GET", "/v1/vms/web/logs?follow"));
    EXPECT_EQ(client.read_raw(1 << 20).size(), 1U << 20);
    EXPECT_EQ(engine_.witness().console_readers, 1);
    EXPECT_EQ(ask("GET", "/health").status, 200U) << "a reader that stands still stops nobody else";
    client.close();
    EXPECT_TRUE(becomes_true([&] { return engine_.witness().console_readers == 0; }));
}

TEST_F(ApiTest, StopEndsIdleConnectionsAndStreamsAndLetsRequestsFinish) {
    create("web");
    Client idle = connect();
    idle.send(request("GET", "/health"));
    ASSERT_EQ(idle.read_answer()->status, 200U);
    Client follower = connect();
    follower.send(request("GET", "/v1/vms/web/logs?follow"));
    ASSERT_EQ(follower.read_raw(1024).size(), 1024U);
    Client busy = connect();
    busy.send(request("POST", "/v1/vms/web/exec", R"({"command":["sleep"],"timeout_ms":200})"));
    ASSERT_TRUE(becomes_true([&] { return engine_.witness().sessions == 1; }));
    auto drained = std::async(std::launch::async, [&] {
        while (!follower.read_raw(1 << 16).empty()) {
        }
    });
    stop();
    EXPECT_EQ(idle.read_answer(), std::nullopt);
    EXPECT_EQ(busy.read_answer()->status, 200U);
    drained.get();
    EXPECT_ANY_THROW((void)connect());
}

constexpr std::string_view handshake =
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

TEST_F(ApiTest, StreamsEndWithTheTokenThatOpenedThem) {
    create("web");
    create("web", bob);
    Client follower = connect();
    follower.send(request("GET", "/v1/vms/web/logs?follow"));
    ASSERT_EQ(follower.read_raw(1024).size(), 1024U);
    Client upload = connect();
    upload.send("POST /v1/vms/web/checkpoints/import HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer " + ann +
                "\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n");
    ASSERT_EQ(upload.read_raw(25), "HTTP/1.1 100 Continue\r\n\r\n") << "the endpoint reads";
    Client console = connect();
    console.send(request("GET", "/v1/vms/web/console", {}, ann, handshake));
    ASSERT_EQ(console.read_answer(true)->status, 101U);
    Client others = connect();
    others.send(request("GET", "/v1/vms/web/logs?follow", {}, bob));
    ASSERT_EQ(others.read_raw(1024).size(), 1024U);

    auto last_of_follower = std::async(std::launch::async, [&] {
        std::string tail;
        for (std::string piece; !(piece = follower.read_some()).empty();) {
            tail += piece;
            tail.erase(0, tail.size() - std::min<std::size_t>(tail.size(), 256));
            if (tail.find("0\r\n\r\n") != std::string::npos) break;
        }
        return tail;
    });
    auto all_of_console = std::async(std::launch::async, [&] {
        std::string tail;
        for (std::string piece; !(piece = console.read_some()).empty();) {
            tail += piece;
            tail.erase(0, tail.size() - std::min<std::size_t>(tail.size(), 256));
            // The client's Close, as the protocol wants it; masked with zeros.
            if (tail.find("\x03\xf0") != std::string::npos) {
                console.send(std::string_view{"\x88\x80\0\0\0\0", 6});
                break;
            }
        }
        return tail;
    });
    Client admin{directory_.path() / "admin.sock"};
    admin.send(request("POST", "/admin/v1/users/ann/rotate-token", {}, {}));
    ASSERT_EQ(admin.read_answer()->status, 200U);

    const auto refused = upload.read_answer();
    ASSERT_TRUE(refused);
    EXPECT_EQ(refused->status, 401U);
    EXPECT_EQ(error(*refused), "the token was replaced by another");
    EXPECT_NE(last_of_follower.get().find("this stream ends: the token was replaced by another"),
              std::string::npos);
    EXPECT_NE(all_of_console.get().find("the token was replaced by another"), std::string::npos);
    EXPECT_EQ(others.read_raw(1 << 16).size(), std::size_t{1} << 16) << "another user's stream goes on";
}

TEST_F(ApiTest, AStoppedServerMayGoAtOnce) {
    stop();
    for (int i = 0; i < 50; ++i) {
        server_ = ApiServer::create(loop_, engine_, config_).value();
        start();
        EXPECT_EQ(ask("GET", "/health").status, 200U);
        asio::co_spawn(loop_, server_->stop(5s), asio::use_future).get();
        server_.reset();
    }
}

TEST_F(ApiTest, AdministrationIsOnItsOwnSocket) {
    EXPECT_EQ(ask("GET", "/admin/v1/users").status, 404U) << "never over the network";
    Client client{directory_.path() / "admin.sock"};
    client.send(request("GET", "/admin/v1/users", {}, {}));
    EXPECT_EQ(boost::json::parse(client.read_answer()->body).as_array().size(), 2U);
    client.send(request("POST", "/admin/v1/users", R"({"name":"carl"})", {}));
    const auto made = client.read_answer();
    EXPECT_EQ(made->status, 201U);
    EXPECT_EQ(boost::json::parse(made->body).at("token").as_string(), std::string(64, 'c'));
    client.send(request("POST", "/admin/v1/users", R"({"name":"ann"})", {}));
    EXPECT_EQ(client.read_answer()->status, 409U);
    client.send(request("DELETE", "/admin/v1/users/nobody", {}, {}));
    EXPECT_EQ(client.read_answer()->status, 404U);
}

}  // namespace
}  // namespace noid::api
