#include "api/metrics.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <vector>

namespace noid::api {

namespace {

void append_head(std::string& page, std::string_view name, std::string_view type, std::string_view help) {
    fmt::format_to(std::back_inserter(page), "# HELP {0} {1}\n# TYPE {0} {2}\n", name, help, type);
}

template <class T>
void append_value(std::string& page, std::string_view name, std::string_view type, std::string_view help,
                  T value) {
    append_head(page, name, type, help);
    fmt::format_to(std::back_inserter(page), "{} {}\n", name, value);
}

// As the format wants it between quotes.
std::string label_value(std::string_view text) {
    std::string escaped;
    for (const char c : text) {
        if (c == '\\' || c == '"') escaped += '\\';
        escaped += c == '\n' ? ' ' : c;
    }
    return escaped;
}

struct NetworkMetric {
    std::string_view name;  // after noid_network_ or noid_vm_network_
    std::string_view help;
    std::uint64_t (*value)(const vm::NetworkNumbers&);
};
using Numbers = const vm::NetworkNumbers&;
constexpr std::array network_metrics{
    NetworkMetric{"sent_bytes", "Sent by guests.", [](Numbers n) { return n.sent.bytes; }},
    NetworkMetric{"sent_packets", "Sent by guests.", [](Numbers n) { return n.sent.packets; }},
    NetworkMetric{"received_bytes", "Received by guests.", [](Numbers n) { return n.received.bytes; }},
    NetworkMetric{"received_packets", "Received by guests.", [](Numbers n) { return n.received.packets; }},
    NetworkMetric{"dropped_packets", "Dropped: forged, or towards what no guest may reach.",
                  [](Numbers n) { return n.forged.packets + n.isolated.packets; }},
    NetworkMetric{"denied_packets", "Refused by the policies of VMs.",
                  [](Numbers n) { return n.denied.packets; }},
    NetworkMetric{"connections", "Open connections of guests.",
                  [](Numbers n) { return std::uint64_t{n.connections}; }},
};

void append_networks(std::string& page, const vm::EngineNumbers& numbers, const std::string* reader) {
    if (!numbers.network) return;
    for (const auto& metric : network_metrics)
        append_value(page, fmt::format("noid_network_{}", metric.name), "gauge", metric.help,
                     metric.value(*numbers.network));
    std::vector<const vm::VmNetworkNumbers*> named;
    std::size_t unnamed = 0;
    for (const auto& each : numbers.networks) {
        if (reader != nullptr && each.user != *reader) continue;
        if (named.size() < Metrics::most_vms_named) {
            named.push_back(&each);
        } else {
            ++unnamed;
        }
    }
    for (const auto& metric : network_metrics) {
        const std::string name = fmt::format("noid_vm_network_{}", metric.name);
        append_head(page, name, "gauge", metric.help);
        for (const auto* each : named) {
            fmt::format_to(std::back_inserter(page), "{}{{user=\"{}\",vm=\"{}\"}} {}\n", name,
                           label_value(each->user), label_value(each->vm), metric.value(each->numbers));
        }
    }
    append_value(page, "noid_vm_network_unnamed", "gauge",
                 "VMs with a network that are too many to be named here.", unnamed);
}

}  // namespace

void Histogram::observe(std::chrono::nanoseconds duration) noexcept {
    const double seconds = std::chrono::duration<double>(duration).count();
    const auto bucket = std::lower_bound(bounds_.begin(), bounds_.end(), seconds) - bounds_.begin();
    counts_[static_cast<std::size_t>(bucket)].fetch_add(1, std::memory_order_relaxed);
    const auto us = std::chrono::duration_cast<std::chrono::microseconds>(duration).count();
    sum_us_.fetch_add(static_cast<std::uint64_t>(us), std::memory_order_relaxed);
}

void Histogram::append_to(std::string& page, std::string_view name, std::string_view help) const {
    append_head(page, name, "histogram", help);
    std::uint64_t below = 0;
    for (std::size_t i = 0; i < bounds_.size(); ++i) {
        below += counts_[i].load(std::memory_order_relaxed);
        fmt::format_to(std::back_inserter(page), "{}_bucket{{le=\"{}\"}} {}\n", name, bounds_[i], below);
    }
    below += counts_[bounds_.size()].load(std::memory_order_relaxed);
    const double sum = static_cast<double>(sum_us_.load(std::memory_order_relaxed)) / 1e6;
    fmt::format_to(std::back_inserter(page), "{0}_bucket{{le=\"+Inf\"}} {1}\n{0}_sum {2}\n{0}_count {1}\n",
                   name, below, sum);
}

void Metrics::count_request(unsigned status) noexcept {
    if (status < requests_.size()) requests_[status].fetch_add(1, std::memory_order_relaxed);
}

std::string Metrics::page(const vm::EngineNumbers& numbers, const std::string* reader) {
    std::string page;
    append_value(page, "noid_vms_total", "gauge", "VMs that exist.", numbers.vms_total);
    append_value(page, "noid_vms_running", "gauge", "VMs that run.", numbers.vms_running);
    creations_.append_to(page, "noid_vm_creation_duration_seconds",
                         "Time from a create request to a VM that answers.");
    checkpoints_.append_to(page, "noid_checkpoint_creation_duration_seconds", "Time to make a checkpoint.");
    append_value(page, "noid_memory_usage_bytes", "gauge", "Memory resident for VMs.", numbers.memory_bytes);
    double percent = 0;
    {
        const std::lock_guard lock{mutex_};
        const auto now = std::chrono::steady_clock::now();
        const double elapsed = std::chrono::duration<double>(now - before_).count();
        // Less than before: a VM with its share was destroyed in between.
        if (elapsed > 0 && numbers.cpu_seconds > cpu_seconds_before_)
            percent = (numbers.cpu_seconds - cpu_seconds_before_) / elapsed * 100;
        cpu_seconds_before_ = numbers.cpu_seconds;
        before_ = now;
    }
    append_value(page, "noid_cpu_usage_percent", "gauge",
                 "CPU of all VMs since the last scrape; 100 is one core.", percent);
    append_value(page, "noid_cpu_seconds", "gauge", "CPU time used by the VMs that exist.",
                 numbers.cpu_seconds);
    append_value(page, "noid_disk_usage_bytes", "gauge", "Disk space used by VMs.", numbers.disk_bytes);
    append_value(page, "noid_pool_ready", "gauge", "VMs that wait for a create.", numbers.warm.ready);
    append_value(page, "noid_pool_memory_bytes", "gauge", "Memory of these VMs, as if they used all of it.",
                 numbers.warm.memory.bytes());
    append_value(page, "noid_pool_given_total", "counter", "VMs that creates took out of the pool.",
                 numbers.warm.given);
    append_value(page, "noid_pool_missed_total", "counter", "Creates of a template that found none.",
                 numbers.warm.missed);
    append_value(page, "noid_pool_ended_total", "counter", "VMs of the pool that ended unused.",
                 numbers.warm.ended);
    append_networks(page, numbers, reader);
    append_head(page, "noid_api_requests_total", "counter", "Requests answered, by status.");
    std::uint64_t errors = 0;
    for (std::size_t status = 100; status < requests_.size(); ++status) {
        const std::uint64_t count = requests_[status].load(std::memory_order_relaxed);
        if (count == 0) continue;
        if (status >= 400) errors += count;
        fmt::format_to(std::back_inserter(page), "noid_api_requests_total{{status=\"{}\"}} {}\n", status,
                       count);
    }
    append_value(page, "noid_api_errors_total", "counter", "Requests answered with 4xx or 5xx.", errors);
    append_value(page, "noid_api_connections", "gauge", "Open connections.",
                 connections.load(std::memory_order_relaxed));
    append_value(page, "noid_api_web_sockets", "gauge", "Open WebSocket sessions.",
                 web_sockets.load(std::memory_order_relaxed));
    return page;
}

}  // namespace noid::api
