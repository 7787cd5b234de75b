#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>
#include <string_view>

#include "base/async.hpp"
#include "channel/agent_channel.hpp"
#include "config/server_config.hpp"
#include "vm/memory_pressure.hpp"
#include "vm/network.hpp"
#include "vm/port_registry.hpp"
#include "vm/template_store.hpp"
#include "vmm/vmm.hpp"
#include "vmm/warden.hpp"
#include "volume/volume.hpp"

namespace noid::vm {

class CheckpointHasher;
class WarmPool;

using ChannelFactory = std::function<std::shared_ptr<channel::AgentChannel>(
    asio::any_io_executor strand, channel::AgentChannel::Connect connect)>;

// MemoryPressure::watch, unless a test is not to depend on what its host is short of.
using PressureWatch = std::function<Result<MemoryPressure>(asio::any_io_executor strand)>;

// Called when an operation has reached a named point ("create:started"); a failure makes the operation
// fail there. Tests inject faults and kill the process with it.
using StepHook = std::function<Result<void>(std::string_view step)>;

// What every VM of this server uses. Owned by the engine, outlives every VM.
struct Host {
    asio::io_context& loop;
    const config::ServerConfig& config;
    asio::thread_pool& databases;  // SQLite
    asio::thread_pool& files;      // copies, removals, /proc
    vmm::Vmm& vmm;
    vmm::Warden& warden;
    const volume::Volume& volume;  // of the data directory
    const TemplateStore& templates;
    WarmPool& warm;
    CheckpointHasher& hasher;
    Network& network;
    PortRegistry& ports;
    ChannelFactory make_channel;
    StepHook at_step;
    PressureWatch watch_pressure;
};

}  // namespace noid::vm
