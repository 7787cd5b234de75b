#include "firecracker/metrics.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <boost/json.hpp>
#include <cerrno>
#include <cstdint>
#include <optional>

#include "base/file.hpp"

namespace noid::firecracker {

namespace json = boost::json;

namespace {

constexpr std::size_t longest_line = 64 * 1024;  // Firecracker's have about 10 KiB
constexpr std::size_t most_at_once = 256 * 1024;

// Of a group of counters: 0 where it is not told.
std::uint64_t count(const json::object& metrics, std::string_view group, std::string_view name) {
    const auto* found = metrics.if_contains(group);
    const auto* fields = found ? found->if_object() : nullptr;
    const auto* value = fields ? fields->if_contains(name) : nullptr;
    boost::system::error_code wrong;
    const auto number = value ? value->to_number<std::uint64_t>(wrong) : 0;
    return wrong ? 0 : number;
}

void add(std::optional<std::uint64_t>& sum, std::uint64_t more) {
    sum = sum.value_or(0) + more;
}

}  // namespace

Result<void> add_metrics(std::string_view line, vmm::DeviceNumbers& sums) {
    boost::system::error_code wrong;
    const auto value = json::parse(line, wrong);
    const auto* metrics = wrong ? nullptr : value.if_object();
    if (metrics == nullptr || !metrics->contains("utc_timestamp_ms"))
        return fail(Errc::corrupt, "this is no line of Firecracker's metrics");
    const auto of = [&](std::string_view group, std::string_view name) {
        return count(*metrics, group, name);
    };
    sums.disk_read_bytes += of("block", "read_bytes");
    sums.disk_written_bytes += of("block", "write_bytes");
    sums.disk_reads += of("block", "read_count");
    sums.disk_writes += of("block", "write_count");
    sums.disk_flushes += of("block", "flush_count");
    sums.disk_errors += of("block", "execute_fails") + of("block", "invalid_reqs_count");
    add(sums.disk_throttled, of("block", "rate_limiter_throttled_events"));
    add(sums.network_received_bytes, of("net", "rx_bytes_count"));
    add(sums.network_sent_bytes, of("net", "tx_bytes_count"));
    add(sums.vsock_received_bytes, of("vsock", "rx_bytes_count"));
    add(sums.vsock_sent_bytes, of("vsock", "tx_bytes_count"));
    add(sums.vcpu_exits, of("vcpu", "exit_io_in") + of("vcpu", "exit_io_out") + of("vcpu", "exit_mmio_read") +
                             of("vcpu", "exit_mmio_write"));
    add(sums.vcpu_errors, of("vcpu", "failures"));
    sums.seccomp_faults = of("seccomp", "num_faults");  // this one is told as it stands
    return {};
}

Result<MetricsFifo> MetricsFifo::open(const Fd& directory) {
    auto fifo = open_file_at(directory, metrics_fifo, O_RDONLY | O_NONBLOCK | O_NOFOLLOW);
    if (!fifo) return fail(std::move(fifo.error()));
    return MetricsFifo{std::move(*fifo)};
}

void MetricsFifo::drain(vmm::DeviceNumbers& sums) {
    std::array<char, 16 * 1024> chunk;
    for (std::size_t total = 0; fifo_ && total < most_at_once;) {
        const auto size = ::read(fifo_.get(), chunk.data(), chunk.size());
        if (size < 0 && errno == EINTR) continue;
        if (size <= 0) return;
        total += static_cast<std::size_t>(size);
        std::string_view bytes{chunk.data(), static_cast<std::size_t>(size)};
        for (auto end = bytes.find('\n'); end != std::string_view::npos; end = bytes.find('\n')) {
            begun_.append(bytes.substr(0, end));
            static_cast<void>(add_metrics(begun_, sums));
            begun_.clear();
            bytes.remove_prefix(end + 1);
        }
        // Too long to be a line of metrics: its end will not make one either.
        if (begun_.size() + bytes.size() > longest_line) begun_.clear();
        begun_.append(bytes);
    }
}

}  // namespace noid::firecracker
