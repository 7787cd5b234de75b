#pragma once

#include <boost/json/value.hpp>

#include "base/error.hpp"
#include "base/units.hpp"
#include "vmm/devices.hpp"

// What QEMU answers about its devices, read.
namespace noid::qemu {

// Of query-balloon, and of the balloon's property guest-stats, in a machine with so much memory. corrupt when
// they are something else.
[[nodiscard]] Result<vmm::MemoryNumbers> read_memory_numbers(const boost::json::value& balloon,
                                                             const boost::json::value& statistics,
                                                             MiB memory);
// Of query-blockstats: those of the machine's disk. corrupt when it is not there.
[[nodiscard]] Result<vmm::DeviceNumbers> read_device_numbers(const boost::json::value& statistics);

}  // namespace noid::qemu
