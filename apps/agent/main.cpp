// noid-agent: runs inside each guest. As the kernel's first process it boots the machine; otherwise it
// serves the host.

#include <unistd.h>

#include <charconv>
#include <cstdio>
#include <optional>
#include <string_view>

#include "agent/agent.hpp"
#include "agent/boot.hpp"

namespace {

constexpr const char* usage =
    "usage: noid-agent [--stdio-socket FD | --listen-unix PATH]\n"
    "Serves the host of this virtual machine; as its first process (/init in the initrd), boots it.\n"
    "  --stdio-socket FD   serve the connected stream socket FD instead, until it ends\n"
    "  --listen-unix PATH  serve a Unix socket at PATH instead\n";

std::optional<noid::agent::Options> parse(int count, char** words) {
    noid::agent::Options options;
    if (count == 1) return options;
    if (count != 3) return std::nullopt;
    const std::string_view name = words[1];
    const std::string_view value = words[2];
    if (name == "--listen-unix") {
        options.listen_unix = value;
        return options;
    }
    int descriptor = -1;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), descriptor);
    if (name != "--stdio-socket" || error != std::errc{} || end != value.data() + value.size() ||
        descriptor < 0)
        return std::nullopt;
    options.socket = descriptor;
    return options;
}

}  // namespace

int main(int count, char** words) {
    if (::getpid() == 1 && count > 0 && std::string_view{words[0]} == "/init")
        noid::agent::run_as_first_process([] { return noid::agent::run({}); });
    const auto options = parse(count, words);
    if (!options) {
        std::fputs(usage, stderr);
        return 2;
    }
    return noid::agent::run(*options);
}
