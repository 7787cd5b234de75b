// The outermost parser: any bytes, any pieces, frames in between, on both sides.
#include "input.hpp"

using namespace noid;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    constexpr std::uint64_t nonce = 7;
    fuzz::Input input{data, size};
    const bool host = (input.number<std::uint8_t>() & 1) != 0;
    proto::FrameReader reader{host ? proto::FrameReader::Side::host : proto::FrameReader::Side::agent};
    reader.expect(nonce);

    std::string stream;
    while (!input.empty()) {
        const auto step = input.number<std::uint8_t>();
        if ((step & 1) != 0)
            fuzz::append_chosen_frame(stream, input, 1, nonce);
        else
            stream += input.take(step);
    }
    const std::size_t piece = 1 + size % 4097;
    for (std::string_view rest = stream; !rest.empty();) {
        const auto space = reader.prepare();
        fuzz::require(space.size() >= 64 * 1024, "no space for what comes");
        const std::size_t count = std::min({space.size(), rest.size(), piece});
        std::memcpy(space.data(), rest.data(), count);
        rest.remove_prefix(count);
        reader.commit(count);
        while (true) {
            const auto frame = reader.next();
            if (!frame) continue;
            if (!*frame) break;
            fuzz::require((*frame)->payload.size() == (*frame)->header.length, "a payload of another length");
            fuzz::require((*frame)->payload.size() <= proto::max_payload, "a payload that is too long");
        }
    }
    return 0;
}
