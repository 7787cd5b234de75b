// The guest's end: any frames of a host, while its sessions produce and take bytes.
#include <map>
#include <memory>

#include "input.hpp"
#include "proto/guest_peer.hpp"

using namespace noid;

namespace {

class Echo final : public proto::GuestSession {
  public:
    Echo(proto::SessionId id, proto::GuestPeer& peer) : GuestSession{id}, peer_{peer} {}
    void produce(std::size_t count) {
        if (!ended()) write_output(proto::OutputStream::out, std::string(count, 'o'));
    }
    bool over = false;

  private:
    void on_spec(proto::SessionSpec) override { opened({}); }
    void on_input() override {
        while (!waiting_input().empty()) {
            const auto bytes = waiting_input();
            input_taken(bytes.size());
        }
        if (input_finished()) end({});
    }
    void on_output_room(proto::OutputStream) override {}
    void on_signal(int) override {}
    void on_resize(proto::TerminalSize) override {}
    void on_cancel() override { over = true; }
    void on_consumer() override {}
    void on_output() override { peer_.wants_to_send(*this); }

    proto::GuestPeer& peer_;
};

class Guest final : public proto::GuestPeer::Handler {
  public:
    proto::AgentInfo info() override { return {}; }
    Result<proto::GuestSession*> open(proto::SessionId id) override {
        auto& session = sessions[id];
        if (!session) session = std::make_unique<Echo>(id, peer);
        return session.get();
    }
    proto::GuestSession* find(proto::SessionId id) override {
        const auto found = sessions.find(id);
        return found == sessions.end() ? nullptr : found->second.get();
    }
    void handle(std::uint64_t request, proto::Request) override { peer.reply(request, proto::Done{}); }
    void host_lost() override {
        for (const auto& [id, session] : sessions) session->become(proto::GuestSession::Consumer::holding);
    }
    void tidy() {
        std::erase_if(sessions, [this](const auto& entry) {
            fuzz::require(entry.second->held() <= 2 * proto::stream_window, "more held than the windows");
            if (!entry.second->over && !entry.second->collected()) return false;
            peer.gone(entry.first, {});
            peer.forget(*entry.second);
            return true;
        });
    }

    proto::GuestPeer peer{*this};
    std::map<proto::SessionId, std::unique_ptr<Echo>> sessions;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input input{data, size};
    Guest guest;
    proto::FrameReader reader{proto::FrameReader::Side::agent};
    constexpr std::uint32_t epoch = 1;
    std::string bytes;
    proto::append_frame(bytes, {.type = proto::FrameType::hello, .epoch = epoch, .id = 9},
                        proto::encode(proto::Hello{}));
    std::string out;
    while (true) {
        for (std::string_view rest = bytes; !rest.empty();) {
            const auto space = reader.prepare();
            const std::size_t count = std::min(space.size(), rest.size());
            std::memcpy(space.data(), rest.data(), count);
            rest.remove_prefix(count);
            reader.commit(count);
            while (true) {
                const auto frame = reader.next();
                if (frame && !*frame) break;
                if (!frame || !guest.peer.receive(**frame)) guest.peer.out_of_step();
            }
        }
        guest.tidy();
        bytes.clear();
        if (input.empty()) return 0;
        const auto step = input.number<std::uint8_t>();
        switch (step % 8) {
            default:
                fuzz::append_chosen_frame(bytes, input, epoch, 9);
                break;
            case 0:
                out.clear();
                guest.peer.gather(out, 64 * 1024);
                break;
            case 1:
                for (const auto& [id, session] : guest.sessions) session->produce(std::size_t{step} * 64);
                break;
            case 2:
                guest.peer.disconnected();
                break;
        }
    }
}
