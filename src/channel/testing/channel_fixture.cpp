#include "channel/testing/channel_fixture.hpp"

#include <stdexcept>

namespace noid::channel::testing {

using proto::OutputStream;

std::string Outcome::ending() const {
    using How = proto::SessionEnd::How;
    switch (end.how) {
        case How::exited:
            return "exited " + std::to_string(end.status);
        case How::signalled:
            return "signalled " + std::to_string(end.status);
        case How::timed_out:
            return "timed out";
        case How::cancelled:
            return "cancelled";
        case How::failed:
            break;
    }
    return "failed: " + end.message;
}

proto::SessionSpec shell(std::string script) {
    return command("/bin/sh", "-c", std::move(script));
}

Awaitable<Outcome> read_all(std::shared_ptr<Session> session, proto::OutputOffsets have) {
    Outcome outcome;
    while (true) {
        auto event = must(co_await session->next());
        if (auto* opened = std::get_if<Session::Opened>(&event)) {
            outcome.opened = std::move(*opened);
        } else if (const auto* dropped = std::get_if<Session::Dropped>(&event)) {
            const bool err = dropped->stream == OutputStream::err;
            (err ? outcome.dropped.err : outcome.dropped.out) += dropped->count;
            (err ? have.err : have.out) += dropped->count;
        } else if (const auto* piece = std::get_if<Session::Output>(&event)) {
            const bool err = piece->stream == OutputStream::err;
            std::uint64_t& place = err ? have.err : have.out;
            if (piece->offset != place) throw std::runtime_error{"output that does not continue"};
            place += piece->bytes.size();
            (err ? outcome.err : outcome.out) += piece->bytes;
            session->acknowledge(piece->stream, place);
        } else if (auto* end = std::get_if<Session::Ended>(&event)) {
            outcome.end = std::move(*end);
            co_return outcome;
        }
    }
}

Awaitable<std::string> read_some(Session& session, std::size_t count) {
    std::string bytes;
    while (bytes.size() < count) {
        auto event = must(co_await session.next());
        if (const auto* piece = std::get_if<Session::Output>(&event)) {
            bytes += piece->bytes;
            session.acknowledge(piece->stream, piece->offset + piece->bytes.size());
        } else if (std::holds_alternative<Session::Ended>(event)) {
            break;
        }
    }
    co_return bytes;
}

Awaitable<void> write_all(std::shared_ptr<Session> session, std::string bytes) {
    must(co_await session->write(std::move(bytes)));
    session->close_input();
}

Awaitable<Result<asio::local::stream_protocol::socket>> ChannelTest::connect_directly() {
    asio::local::stream_protocol::socket socket{loop_};
    boost::system::error_code error;
    socket.connect({agent_.socket_path()}, error);
    if (error) co_return fail(Errc::unavailable, "the agent does not listen");
    co_return socket;
}

void ChannelTest::beside(Awaitable<void> work) {
    asio::co_spawn(loop_, std::move(work), [](std::exception_ptr thrown) {
        if (!thrown) return;
        try {
            std::rethrow_exception(thrown);
        } catch (const std::exception& error) {
            ADD_FAILURE() << error.what();
        }
    });
}

Awaitable<Outcome> ChannelTest::finish(proto::SessionSpec spec, std::string input) {
    auto session = must(co_await channel_->open(std::move(spec)));
    const auto writing = [](std::shared_ptr<Session> to, std::string bytes) -> Awaitable<void> {
        // A command may end without reading its input.
        if (co_await to->write(std::move(bytes))) to->close_input();
    };
    beside(writing(session, std::move(input)));
    co_return co_await read_all(std::move(session));
}

void ChannelTest::run(const Body& body, std::chrono::seconds limit) {
    channel_ = AgentChannel::create(loop_.get_executor(), connect);
    bool done = false;
    const auto test = [&]() -> Awaitable<void> {
        channel_->start();
        must(co_await channel_->ready(limit));
        if (agent_.is_in_guest()) {
            // Nothing of the test before.
            proto::Identity identity;
            identity.end_sessions = true;
            auto renewing = channel_->renew_identity(identity, limit);
            must(co_await std::move(renewing));
        }
        co_await body();
    };
    asio::co_spawn(loop_, test, [&](std::exception_ptr thrown) {
        done = true;
        channel_->stop();
        if (!thrown) return;
        try {
            std::rethrow_exception(thrown);
        } catch (const std::exception& error) {
            ADD_FAILURE() << error.what();
        }
    });
    loop_.run_for(limit);
    EXPECT_TRUE(done) << "not done after " << limit.count() << " s";
    if (!done) channel_->stop();
    loop_.restart();
    loop_.run_for(std::chrono::seconds{5});
    EXPECT_TRUE(loop_.stopped()) << "something still waits after the channel's end";
}

}  // namespace noid::channel::testing
