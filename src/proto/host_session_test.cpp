#include "proto/host_session.hpp"

#include <gtest/gtest.h>

namespace noid::proto {
namespace {

class Consumer final : public HostSession {
  public:
    Consumer() : HostSession{SessionId{1}, std::string_view{}} {
        // As HostPeer does it when the channel is up.
        std::string out;
        gather(out, 0, 1000);
    }

  private:
    void on_change() override {}
    void on_output() override {}
};

std::string record(const SessionEvent& event) {
    std::string bytes;
    append_record(bytes, event);
    return bytes;
}

TEST(HostSession, TellsWhatIsOpenedBeforeItsFirstByte) {
    Consumer session;
    ASSERT_TRUE(session.receive(StreamId::out, 0, "early"));
    EXPECT_FALSE(session.next_event()) << "the guest has not said what this is";
    ASSERT_TRUE(session.receive(StreamId::events, 0, record(Opened{.pid = 5, .file = {}})));
    const auto first = session.next_event();
    ASSERT_TRUE(first && std::holds_alternative<Opened>(*first));
    const auto second = session.next_event();
    ASSERT_TRUE(second && std::holds_alternative<OutputBytes>(*second));
    EXPECT_EQ(std::get<OutputBytes>(*second).bytes, "early");
}

TEST(HostSession, EndsWithoutEverBeingOpened) {
    Consumer session;
    std::string events = record(OutputEnd{OutputStream::out, 0}) + record(OutputEnd{OutputStream::err, 0});
    events += record(SessionEnd{.how = SessionEnd::How::failed, .message = "no such user"});
    ASSERT_TRUE(session.receive(StreamId::events, 0, events));
    std::optional<HostSession::Event> last;
    while (auto event = session.next_event()) last = std::move(event);
    ASSERT_TRUE(last && std::holds_alternative<SessionEnd>(*last));
    EXPECT_EQ(std::get<SessionEnd>(*last).message, "no such user");
}

TEST(HostSession, RefusesWhatNoGuestMaySend) {
    Consumer session;
    EXPECT_FALSE(session.receive(StreamId::out, 1, "gap"));
    EXPECT_FALSE(session.receive(StreamId::input, 0, "x")) << "a stream that the host sends";
    EXPECT_FALSE(session.receive(StreamId::out, 0, std::string(stream_window + 1, 'x')))
        << "beyond the window";
    EXPECT_FALSE(session.acknowledged(StreamId::input, 1)) << "bytes that were never sent";
    EXPECT_FALSE(session.receive(StreamId::events, 0, record(SessionEnd{.message = {}})))
        << "an end before its outputs' ends";
}

}  // namespace
}  // namespace noid::proto
