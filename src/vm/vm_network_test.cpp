#include "vm/testing/engine_world.hpp"

namespace noid::vm {
namespace {

namespace fs = std::filesystem;

using VmNetworkTest = EngineWorld;

NetworkSettings only_to(const char* network) {
    NetworkSettings settings;
    settings.mode = NetworkMode::egress;
    settings.rules.push_back({net::Action::allow, *net::parse_ipv4_network(network), net::Protocol::any, {}});
    return settings;
}

TEST_F(VmNetworkTest, NetworkSettingsStayWithTheVm) {
    const NetworkSettings at_first = only_to("10.1.0.0/16");
    const NetworkSettings later = only_to("10.2.0.0/16");
    const NetworkSettings while_stopped = only_to("10.3.0.0/16");
    const auto in_force = [this]() -> NetworkSettings {
        EXPECT_EQ(script_->network.size(), 1u);
        return script_->network.begin()->second;
    };
    const VmName web = VmName::parse("web").value();
    run([&]() -> Awaitable<void> {
        co_await open();
        auto ann = co_await tenant();
        auto asked = request("web");
        asked.network = at_first;
        EXPECT_TRUE(co_await ann->create(asked));
        auto vm = ann->find(web).value();
        EXPECT_EQ(in_force(), at_first);
        EXPECT_TRUE(co_await vm->set_network(later));
        EXPECT_EQ(in_force(), later);
        EXPECT_EQ(vm->network(), later);
        EXPECT_EQ((co_await vm->network_numbers())->sent.bytes, 100u);
        EXPECT_TRUE((co_await vm->details())->network_numbers);

        script_->network_fails = Error{Errc::unavailable, "netd is ill"};
        EXPECT_EQ((co_await vm->set_network(at_first)).error().code, Errc::unavailable);
        script_->network_fails.reset();
        EXPECT_EQ(vm->network(), later);

        NetworkSettings wrong;
        wrong.upload = 1;
        EXPECT_EQ((co_await vm->set_network(wrong)).error().code, Errc::invalid);
        co_await close();
    });
    // Netd may have been told something that was not written down any more.
    script_->network.begin()->second = at_first;
    run([&]() -> Awaitable<void> {
        co_await open();
        auto ann = co_await tenant();
        auto vm = ann->find(web).value();
        EXPECT_EQ(vm->network(), later);
        EXPECT_EQ(in_force(), later);

        EXPECT_TRUE(co_await vm->suspend());
        EXPECT_EQ(in_force(), later) << "asleep, but it keeps its place";
        EXPECT_TRUE(co_await vm->set_network(at_first));
        EXPECT_EQ(in_force(), at_first);
        EXPECT_TRUE(co_await vm->set_network(later));
        EXPECT_TRUE(co_await vm->resume());
        EXPECT_EQ(in_force(), later);

        EXPECT_TRUE(co_await vm->stop(StopMode::force));
        EXPECT_TRUE(co_await vm->set_network(while_stopped));
        EXPECT_TRUE(co_await vm->start());
        EXPECT_EQ(in_force(), while_stopped);

        const ForkRequest two{std::size_t{2}};
        EXPECT_TRUE(co_await ann->checkpoints().fork(web, two));
        EXPECT_EQ(script_->network.size(), 3u);
        for (const auto& [id, settings] : script_->network) EXPECT_EQ(settings, while_stopped);
        co_await close();
    });
    // The directory is the truth when the row is lost.
    fs::remove(user_directory() / "noid.db");
    run([&]() -> Awaitable<void> {
        co_await open();
        auto ann = co_await tenant();
        EXPECT_EQ(ann->find(web).value()->network(), while_stopped);
        co_await close();
    });
}

TEST_F(VmNetworkTest, PublishedPortsAreUniqueAndStay) {
    const VmName web = VmName::parse("web").value();
    const std::vector<PublishedPort> first{{80, 8080, true}};
    const std::vector<PublishedPort> both{{80, 8080, true}, {22, 2222, false}};
    const std::vector<PublishedPort> twice{{80, 1, false}, {80, 2, false}};
    const std::vector<PublishedPort> none;
    run([&]() -> Awaitable<void> {
        co_await open();
        auto ann = co_await tenant();
        int changes = 0;
        engine_->ports().watch([&changes] { ++changes; });
        auto asked = request("web");
        asked.ports = first;
        EXPECT_TRUE(co_await ann->create(asked));
        auto vm = ann->find(web).value();
        EXPECT_EQ(changes, 1);
        EXPECT_TRUE(co_await vm->set_published_ports(both));
        EXPECT_EQ(changes, 2);
        EXPECT_EQ((co_await vm->set_published_ports(twice)).error().code, Errc::invalid);

        auto other = request("other");
        other.ports = {{1, 2222, false}};
        EXPECT_EQ((co_await ann->create(other)).error().code, Errc::conflict);
        other.ports = {{1, 3333, false}};
        EXPECT_TRUE(co_await ann->create(other));
        auto second = ann->find(other.name).value();
        EXPECT_EQ((co_await second->set_published_ports(first)).error().code, Errc::conflict);
        EXPECT_EQ(second->published_ports(), other.ports);
        EXPECT_TRUE(co_await ann->destroy(other.name));
        EXPECT_EQ(engine_->ports().all().size(), 2u);
        engine_->ports().watch({});
        co_await close();
    });
    run([&]() -> Awaitable<void> {
        co_await open();
        auto ann = co_await tenant();
        auto vm = ann->find(web).value();
        EXPECT_EQ(vm->published_ports(), both);
        const auto published = engine_->ports().all();
        EXPECT_EQ(published.size(), 2u);
        EXPECT_EQ(published.front().vm, vm);
        EXPECT_EQ(published.front().port, both[1]) << "by the host's port";
        EXPECT_TRUE(co_await vm->set_published_ports(none));
        EXPECT_TRUE(engine_->ports().all().empty());
        co_await close();
    });
}

TEST_F(VmNetworkTest, LeakedSlotsAreGivenBackAtTheStart) {
    run([this]() -> Awaitable<void> {
        co_await open();
        auto ann = co_await tenant();
        EXPECT_TRUE(co_await ann->create(request("web")));
        co_await close();
    });
    const std::string server = script_->server_id;
    EXPECT_EQ(server.size(), 32u);
    const std::set<std::string> held = script_->slots;
    script_->slots.insert("0123456789abcdef");
    run([this]() -> Awaitable<void> {
        co_await open();
        co_await close();
    });
    EXPECT_EQ(script_->slots, held);
    EXPECT_EQ(script_->server_id, server) << "it is the same server";
}

}  // namespace
}  // namespace noid::vm
