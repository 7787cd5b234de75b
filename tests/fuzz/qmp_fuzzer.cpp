// A QEMU that its guest has taken over, at its control connection: any lines, to a client that greets, asks
// about the devices and waits for events. Whatever it says, the client comes to an end.
#include <sys/socket.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/connect_pair.hpp>
#include <boost/asio/write.hpp>

#include "input.hpp"
#include "qemu/device_answers.hpp"
#include "qemu/qmp_client.hpp"

using namespace noid;
using namespace std::chrono_literals;

namespace {

constexpr auto limit = 60s;  // the other end has closed, so nobody waits for it
constexpr MiB memory{256};

std::string plain_beginning() {
    return "{\"QMP\":{\"version\":{\"qemu\":{\"major\":7,\"minor\":2,\"micro\":22}}}}\n"
           "{\"return\":{},\"id\":1}\n";
}

struct Talk {
    bool ended = false;
    std::size_t events = 0;
};

Awaitable<void> converse(asio::local::stream_protocol::socket socket, Talk& talk) {
    const qemu::QmpClient::OnEvent on_event = [&talk](const qemu::QmpEvent& event) {
        fuzz::require(!event.name.empty(), "an event without a name");
        ++talk.events;
    };
    auto client = co_await qemu::QmpClient::connect(std::move(socket), on_event, limit);
    if (client) {
        const auto balloon = co_await (*client)->execute("query-balloon", {}, limit);
        const auto told = co_await (*client)->execute("qom-get", {}, limit);
        if (balloon && told) {
            const auto numbers = qemu::read_memory_numbers(*balloon, *told, memory);
            if (numbers) fuzz::require(numbers->balloon <= memory.bytes(), "a balloon larger than the guest");
        }
        const auto disks = co_await (*client)->execute("query-blockstats", {}, limit);
        if (disks) (void)qemu::read_device_numbers(*disks);
        (void)co_await (*client)->closed(limit);
    }
    talk.ended = true;
}

// Also by itself, so that a line that ends the talk does not hide those behind it.
void read_lines(std::string_view text) {
    while (!text.empty()) {
        const auto line = text.substr(0, text.find('\n'));
        text.remove_prefix(std::min(text.size(), line.size() + 1));
        const auto message = qemu::parse_qmp(line);
        if (!message) continue;
        if (const auto* reply = std::get_if<qemu::QmpReply>(&*message)) {
            (void)qemu::read_device_numbers(reply->value);
            (void)qemu::read_memory_numbers(reply->value, reply->value, memory);
        }
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input input{data, size};
    const bool begins_well = (input.number<std::uint8_t>() & 1) == 0;
    const std::string_view lines = input.all().substr(0, 64 * 1024);  // what the socket takes at once
    read_lines(lines);

    asio::io_context loop;
    asio::local::stream_protocol::socket ours{loop};
    asio::local::stream_protocol::socket qemus{loop};
    asio::local::connect_pair(ours, qemus);
    boost::system::error_code ignored;
    if (begins_well) asio::write(qemus, asio::buffer(plain_beginning()), ignored);
    asio::write(qemus, asio::buffer(lines), ignored);
    qemus.shutdown(asio::local::stream_protocol::socket::shutdown_send, ignored);
    Talk talk;
    std::exception_ptr thrown;
    asio::co_spawn(loop, converse(std::move(ours), talk), [&](std::exception_ptr e) { thrown = e; });
    loop.run();
    if (thrown) std::rethrow_exception(thrown);
    fuzz::require(talk.ended, "a talk without an end");
    return 0;
}
