// Every message decoder. What is decoded must be encoded again to something that decodes to the same.
#include "input.hpp"
#include "proto/codec.hpp"

using namespace noid;

namespace {

template <class Message>
void decode_one(std::string_view bytes) {
    const auto message = proto::decode<Message>(bytes);
    if (!message) return;
    const std::string once = proto::encode(*message);
    const auto again = proto::decode<Message>(once);
    fuzz::require(again.has_value(), "an own encoding that is refused");
    fuzz::require(proto::encode(*again) == once, "an encoding that changes");
}

template <class Record>
void read_records(std::string_view bytes, std::size_t piece) {
    proto::RecordReader<Record> reader;
    while (!bytes.empty()) {
        reader.feed(bytes.substr(0, piece));
        bytes.remove_prefix(std::min(piece, bytes.size()));
        while (true) {
            const auto record = reader.next();
            if (!record) return;
            if (!*record) break;
        }
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input input{data, size};
    switch (input.number<std::uint8_t>() % 10) {
        case 0:
            decode_one<proto::Control>(input.all());
            break;
        case 1:
            decode_one<proto::SessionEvent>(input.all());
            break;
        case 2:
            decode_one<proto::Request>(input.all());
            break;
        case 3:
            decode_one<proto::Reply>(input.all());
            break;
        case 4:
            decode_one<proto::AgentInfo>(input.all());
            break;
        case 5:
            decode_one<proto::ResumeOffsets>(input.all());
            break;
        case 6:
            decode_one<proto::ResumedOffsets>(input.all());
            break;
        case 7:
            decode_one<proto::Failure>(input.all());
            break;
        case 8:
            read_records<proto::Control>(input.all(), 1 + size % 97);
            break;
        default:
            read_records<proto::SessionEvent>(input.all(), 1 + size % 97);
            break;
    }
    return 0;
}
