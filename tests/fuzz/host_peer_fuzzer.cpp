// The host against a hostile guest: any frames, while consumers read, write, leave and come back. What is
// held for a consumer stays within its windows, and what it gets continues where it was.
#include "input.hpp"
#include "proto/host_peer.hpp"

using namespace noid;

namespace {

class Channel final : public proto::HostPeer::Handler {
  public:
    void handshaken(proto::AgentInfo) override {}
    void replied(std::uint64_t, proto::Reply) override {}
    void resync() override { again = true; }
    bool again = false;
};

class Consumer final : public proto::HostSession {
  public:
    Consumer(proto::SessionId id, proto::HostPeer& peer, std::string_view spec)
        : HostSession{id, spec}, peer_{peer} {}
    Consumer(proto::SessionId id, proto::HostPeer& peer)
        : HostSession{id, proto::OutputOffsets{}}, peer_{peer} {}

    void read() {
        while (const auto event = next_event()) {
            if (const auto* piece = std::get_if<proto::OutputBytes>(&*event)) {
                auto& place = piece->stream == proto::OutputStream::err ? place_.err : place_.out;
                auto& kept = piece->stream == proto::OutputStream::err ? safe_.err : safe_.out;
                fuzz::require(piece->offset >= place, "bytes that came before");
                place = piece->offset + piece->bytes.size();
                fuzz::require(kept > piece->offset || place - kept <= 2 * proto::stream_window,
                              "more bytes than the window");
            }
        }
    }
    void acknowledge_all() {
        acknowledge(proto::OutputStream::out, place_.out);
        acknowledge(proto::OutputStream::err, place_.err);
        safe_ = place_;
    }
    void start_over() {
        hand_over({});
        place_ = safe_ = {};
    }

  private:
    void on_change() override {}
    void on_output() override { peer_.wants_to_send(id()); }

    proto::HostPeer& peer_;
    proto::OutputOffsets place_;
    proto::OutputOffsets safe_;
};

std::string specification() {
    std::string record;
    proto::Exec exec;
    exec.argv = {"true"};
    proto::append_record(record, proto::Control{proto::SessionSpec{.operation = exec, .label = {}}});
    return record;
}

std::string handshake(std::uint64_t nonce, std::uint32_t epoch) {
    std::string bytes;
    proto::AgentInfo info;
    info.protocol = proto::protocol_version;
    proto::append_frame(bytes, {.type = proto::FrameType::hello_ack, .epoch = epoch, .id = nonce},
                        proto::encode(info));
    return bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const std::string spec = specification();
    fuzz::Input input{data, size};
    Channel channel;
    proto::HostPeer peer{channel};
    const std::array<std::shared_ptr<Consumer>, 3> sessions{
        std::make_shared<Consumer>(proto::SessionId{1}, peer, spec),
        std::make_shared<Consumer>(proto::SessionId{2}, peer, spec),
        std::make_shared<Consumer>(proto::SessionId{3}, peer)};
    for (const auto& session : sessions) peer.add(session);
    peer.request(1, proto::encode(proto::Request{proto::ListSessions{}}));

    std::uint64_t nonce = 0;
    std::uint32_t epoch = 0;
    const auto connect = [&](bool new_transport) { peer.begin(++nonce, ++epoch, new_transport); };
    connect(true);
    (void)fuzz::feed(peer, handshake(nonce, epoch));

    std::string out;
    while (!input.empty()) {
        const auto step = input.number<std::uint8_t>();
        Consumer& session = *sessions[step / 32 % sessions.size()];
        switch (step % 16) {
            default: {
                std::string bytes;
                fuzz::append_chosen_frame(bytes, input, epoch, nonce);
                if (!fuzz::feed(peer, bytes)) {
                    connect(true);
                    (void)fuzz::feed(peer, handshake(nonce, epoch));
                }
                break;
            }
            case 0:
                out.clear();
                peer.gather(out, 64 * 1024);
                break;
            case 1:
                session.read();
                break;
            case 2:
                session.read();
                session.acknowledge_all();
                break;
            case 3:
                (void)session.write(std::string(1 + step, 'i'));
                break;
            case 4:
                session.close_input();
                break;
            case 5:
                session.signal(step);
                session.resize({});
                break;
            case 6:
                session.leave(static_cast<proto::HostSession::Leave>(input.number<std::uint8_t>() % 4));
                break;
            case 7:
                session.start_over();
                break;
            case 8:
                peer.disconnected();
                connect(true);
                (void)fuzz::feed(peer, handshake(nonce, epoch));
                break;
        }
        if (std::exchange(channel.again, false)) {
            connect(false);
            (void)fuzz::feed(peer, handshake(nonce, epoch));
        }
    }
    return 0;
}
