#include "privileged/request.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>
#include <csignal>
#include <functional>
#include <random>

#include "base/file.hpp"

namespace noid::privileged {
namespace {

vmm::ProcessRequest machine() {
    vmm::ProcessRequest request;
    request.spec.id = "6f1c";
    request.spec.directory = "/data/users/1/vms/a";
    request.spec.vcpus = 2;
    request.spec.memory = MiB{512};
    request.spec.kernel_arguments = "noid.init=agent";
    request.spec.network = vmm::NetworkAttachment{"tap0", "AA:FC:00:00:00:01", "/run/netns/noid3"};
    request.program = vmm::QemuStart{.kvm = true, .tsc_khz = 5, .memory_file = "memory.snap", .paused = true};
    return request;
}

Result<Request> decoded(std::string bytes) {
    return decode(Packet{std::move(bytes), {}});
}

TEST(Request, ArrivesAsItWasSent) {
    const auto sent = machine();
    const auto request = decoded(encode(sent));
    ASSERT_TRUE(request);
    const auto& got = std::get<vmm::ProcessRequest>(*request);
    EXPECT_EQ(got.spec.id, sent.spec.id);
    EXPECT_EQ(got.spec.directory, sent.spec.directory);
    EXPECT_EQ(got.spec.vcpus, 2U);
    EXPECT_EQ(got.spec.memory.count, 512U);
    EXPECT_EQ(got.spec.kernel_arguments, sent.spec.kernel_arguments);
    EXPECT_EQ(got.spec.network->netns, "/run/netns/noid3");
    const auto& qemu = std::get<vmm::QemuStart>(got.program);
    EXPECT_TRUE(qemu.kvm);
    EXPECT_TRUE(qemu.paused);
    EXPECT_EQ(qemu.memory_file, "memory.snap");

    const auto signal = decoded(encode(SignalRequest{7, SIGKILL}));
    ASSERT_TRUE(signal);
    EXPECT_EQ(std::get<SignalRequest>(*signal).handle, 7U);

    const auto reclaim = decoded(encode(ReclaimRequest{"/data/users/1/vms/.trash-6f1c"}));
    ASSERT_TRUE(reclaim);
    EXPECT_EQ(std::get<ReclaimRequest>(*reclaim).directory, "/data/users/1/vms/.trash-6f1c");
}

TEST(Request, CarriesNoKernelOfTheServers) {
    auto sent = machine();
    sent.spec.kernel = "/etc/shadow";
    const auto request = decoded(encode(sent));
    ASSERT_TRUE(request);
    EXPECT_TRUE(std::get<vmm::ProcessRequest>(*request).spec.kernel.empty());
}

TEST(Request, OutOfBoundsIsRefused) {
    using Change = std::function<void(vmm::ProcessRequest&)>;
    const std::vector<std::pair<const char*, Change>> changes{
        {"escape", [](auto& r) { r.spec.directory = "/data/users/../../etc"; }},
        {"relative", [](auto& r) { r.spec.directory = "data"; }},
        {"long path", [](auto& r) { r.spec.directory = "/" + std::string(2000, 'x'); }},
        {"zero byte",
         [](auto& r) {
             r.spec.directory = std::string{"/data\0/x", 8};
         }},
        {"disk elsewhere", [](auto& r) { r.spec.rootfs = "../x"; }},
        {"hidden disk", [](auto& r) { r.spec.rootfs = ".."; }},
        {"no disk", [](auto& r) { r.spec.rootfs = ""; }},
        {"option as id", [](auto& r) { r.spec.id = "-daemonize"; }},
        {"comma", [](auto& r) { r.spec.id = "a,b"; }},
        {"line break", [](auto& r) { r.spec.kernel_arguments = "a\nb"; }},
        {"long arguments", [](auto& r) { r.spec.kernel_arguments = std::string(4000, 'a'); }},
        {"vcpus", [](auto& r) { r.spec.vcpus = 100'000; }},
        {"memory", [](auto& r) { r.spec.memory = MiB{std::uint64_t{1} << 40}; }},
        {"tap", [](auto& r) { r.spec.network->tap = "tap,script=/x"; }},
        {"mac", [](auto& r) { r.spec.network->guest_mac = "a,b"; }},
        {"namespace", [](auto& r) { r.spec.network->netns = "../1/ns/net"; }},
        {"memory file", [](auto& r) { std::get<vmm::QemuStart>(r.program).memory_file = "/etc/shadow"; }},
    };
    for (const auto& [what, change] : changes) {
        auto request = machine();
        change(request);
        EXPECT_FALSE(decoded(encode(request))) << what;
    }
}

TEST(Request, OtherThanTheVerbsIsRefused) {
    EXPECT_FALSE(decoded(""));
    EXPECT_FALSE(decoded("x"));
    for (const std::uint64_t verb : {0U, 8U, 1000U}) EXPECT_FALSE(decoded(Writer{}.number(verb).take()));
    EXPECT_FALSE(decoded(encode(SignalRequest{1, SIGSTOP})));
    EXPECT_FALSE(decoded(encode(SignalRequest{1, 0})));
    EXPECT_FALSE(decoded(encode(AdoptRequest{{-1, 5}, "/data/a"})));
    for (const char* path : {"", "data", "/data/../etc", "/data/./a"})
        EXPECT_FALSE(decoded(encode(ReclaimRequest{path}))) << path;
    // Neither too little nor too much.
    const auto whole = encode(machine());
    for (std::size_t size = 0; size < whole.size(); ++size) EXPECT_FALSE(decoded(whole.substr(0, size)));
    EXPECT_FALSE(decoded(whole + "x"));
    EXPECT_FALSE(decoded(encode(ProcessesRequest{}) + std::string(8, '\0')));
}

TEST(Request, DescriptorsComeWithNumbersOnly) {
    Packet packet{encode(FilesRequest{1}), {}};
    packet.descriptors.push_back(std::move(*open_file("/dev/null", O_RDONLY)));
    EXPECT_FALSE(decode(std::move(packet)));
    Packet start{encode(machine()), {}};
    start.descriptors.push_back(std::move(*open_file("/dev/null", O_RDONLY)));
    EXPECT_FALSE(decode(std::move(start)));
}

// Whatever bytes come, the answer is a request within its bounds or a refusal.
TEST(Request, GarbageIsRefused) {
    std::mt19937 random{1};
    const auto whole = encode(machine());
    for (int i = 0; i < 20'000; ++i) {
        auto bytes = whole;
        for (int changes = 0; changes < 3; ++changes)
            bytes[random() % bytes.size()] = static_cast<char>(random());
        const auto request = decoded(bytes);
        if (!request) continue;
        if (const auto* start = std::get_if<vmm::ProcessRequest>(&*request)) {
            EXPECT_EQ(start->spec.rootfs.find('/'), std::string::npos);
            EXPECT_LE(start->spec.vcpus, 1024U);
        }
    }
}

struct Ends {
    Fd ours;
    Fd theirs;
};
Ends socket_pair() {
    std::array<int, 2> ends{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()), 0);
    return {Fd{ends[0]}, Fd{ends[1]}};
}

TEST(Packet, TooMuchIsRefusedAndTheNextOneArrives) {
    const auto [ours, theirs] = socket_pair();
    const std::string large(max_packet_bytes + 1, 'x');
    ASSERT_EQ(::send(ours.get(), large.data(), large.size(), 0), static_cast<ssize_t>(large.size()));
    const std::vector<int> many(max_packet_descriptors + 3, ours.get());
    EXPECT_EQ(send_packet(ours, "x", many).error().code, Errc::too_large);
    alignas(cmsghdr) std::array<char, CMSG_SPACE(11 * sizeof(int))> control{};
    char byte = 'x';
    iovec content{&byte, 1};
    msghdr message{};
    message.msg_iov = &content;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    *header = {.cmsg_len = CMSG_LEN(11 * sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    std::memcpy(CMSG_DATA(header), many.data(), 11 * sizeof(int));
    ASSERT_EQ(::sendmsg(ours.get(), &message, 0), 1);
    ASSERT_TRUE(send_packet(ours, "fine", {}));

    EXPECT_EQ(receive_packet(theirs).error().code, Errc::invalid);
    EXPECT_EQ(receive_packet(theirs).error().code, Errc::invalid);
    EXPECT_EQ(receive_packet(theirs)->bytes, "fine");
}

TEST(Packet, TheEndIsTold) {
    auto [ours, theirs] = socket_pair();
    ours.reset();
    EXPECT_EQ(receive_packet(theirs).error().code, Errc::unavailable);
    EXPECT_EQ(send_packet(theirs, "x", {}).error().code, Errc::unavailable);
}

}  // namespace
}  // namespace noid::privileged
