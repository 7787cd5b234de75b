#include "firecracker/api_client.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/file.hpp"
#include "base/temporary_directory.hpp"
#include "firecracker/scripted_peer.hpp"

namespace noid::firecracker {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

class ApiClientTest : public testing::Test {
  protected:
    // Sends one request to a peer that gives this answer.
    Result<std::string> exchange(const Request& request, const std::string& answer) {
        ScriptedPeer peer{loop_, directory_, api_socket, "\r\n\r\n", {answer}};
        Result<std::string> got;
        auto body = [&]() -> Awaitable<void> {
            got = co_await ApiClient{directory_}.send(request, deadline_);
        };
        run(loop_, body());
        if (!peer.requests.empty()) seen_ = peer.requests.front();
        return got;
    }

    asio::io_context loop_;
    TemporaryDirectory home_ = std::move(*TemporaryDirectory::create());
    Fd directory_ = std::move(*open_directory(home_.path()));
    std::chrono::milliseconds deadline_ = 10s;
    std::string seen_;
};

TEST_F(ApiClientTest, SendsJsonAndTakesAnAnswerWithoutABody) {
    const auto answer = exchange(pause(), no_content);
    ASSERT_TRUE(answer) << answer.error().full();
    EXPECT_EQ(*answer, "");
    EXPECT_THAT(seen_, HasSubstr("PATCH /vm HTTP/1.1\r\n"));
    EXPECT_THAT(seen_, HasSubstr("Content-Type: application/json\r\n"));
    EXPECT_THAT(seen_, HasSubstr("Content-Length: 18\r\n"));
}

TEST_F(ApiClientTest, GivesTheBody) {
    EXPECT_EQ(exchange(instance_info(), ok(R"({"firecracker_version":"1.16.1"})")),
              R"({"firecracker_version":"1.16.1"})");
}

TEST_F(ApiClientTest, ARefusalHasFirecrackersOwnWords) {
    const auto answer = exchange(
        Request{Request::Method::put, "/boot-source", "{}"},
        bad_request(
            R"json({"fault_message":"Boot source error: The kernel file cannot be opened: No such file or directory (os error 2)"})json"));
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().code, Errc::internal);
    EXPECT_EQ(answer.error().what,
              "firecracker refuses PUT /boot-source: Boot source error: The kernel file cannot be opened: No "
              "such file or directory (os error 2)");
}

TEST_F(ApiClientTest, AFullDiskIsOne) {
    const auto answer = exchange(
        Request{Request::Method::put, "/snapshot/create", "{}"},
        bad_request(
            R"json({"fault_message":"Create snapshot error: Cannot perform sync_all on the memory backing file: No space left on device (os error 28)"})json"));
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().code, Errc::no_space);
}

TEST_F(ApiClientTest, ARefusalWithoutWordsHasItsStatus) {
    EXPECT_THAT(exchange(pause(), bad_request("no JSON")).error().what, HasSubstr("status 400"));
}

TEST_F(ApiClientTest, WhatIsNotHttpIsCorrupt) {
    EXPECT_EQ(exchange(pause(), "SSH-2.0-OpenSSH_9.2\r\n\r\n").error().code, Errc::corrupt);
}

TEST_F(ApiClientTest, ABodyThatIsTooLargeIsRefusedUnread) {
    EXPECT_EQ(exchange(pause(), "HTTP/1.1 200 \r\nContent-Length: 1000000\r\n\r\n").error().code,
              Errc::corrupt);
}

TEST_F(ApiClientTest, AnAnswerCutShortMeansThatFirecrackerEnded) {
    EXPECT_EQ(exchange(pause(), "HTTP/1.1 200 \r\nContent-Length: 10\r\n\r\n{").error().code,
              Errc::unavailable);
}

TEST_F(ApiClientTest, SilenceHasADeadline) {
    deadline_ = 20ms;
    const auto answer = exchange(pause(), "");
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().code, Errc::timed_out);
    EXPECT_THAT(answer.error().what, HasSubstr("PATCH /vm"));
}

TEST_F(ApiClientTest, NobodyThere) {
    Result<std::string> got;
    auto body = [&]() -> Awaitable<void> { got = co_await ApiClient{directory_}.send(pause(), 1s); };
    run(loop_, body());
    EXPECT_EQ(got.error().code, Errc::not_found);
}

TEST_F(ApiClientTest, ReadsTheState) {
    ScriptedPeer peer{loop_,
                      directory_,
                      api_socket,
                      "\r\n\r\n",
                      {instance("Not started"), instance("Running"), instance("Paused"), ok("[]")}};
    auto body = [&]() -> Awaitable<void> {
        const ApiClient api{directory_};
        EXPECT_EQ(co_await api.state(), ApiClient::State::not_started);
        EXPECT_EQ(co_await api.state(), ApiClient::State::running);
        EXPECT_EQ(co_await api.state(), ApiClient::State::paused);
        const auto odd = co_await api.state();
        EXPECT_EQ(odd.error().code, Errc::corrupt);
    };
    run(loop_, body());
}

}  // namespace
}  // namespace noid::firecracker
