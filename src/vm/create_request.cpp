#include "vm/create_request.hpp"

#include <fmt/format.h>

#include <boost/json/serialize.hpp>
#include <boost/json/value_from.hpp>

#include "vm/token.hpp"
#include "wire/names.hpp"
#include "wire/vm.hpp"

namespace noid::vm {

namespace {

constexpr std::size_t longest_key = 128;

Result<void> check_labels(const CreateRequest& request) {
    if (request.labels.size() > wire::max_labels) {
        return fail(Errc::invalid,
                    fmt::format("too many labels ({}, max {})", request.labels.size(), wire::max_labels));
    }
    for (const auto& [key, value] : request.labels) {
        if (key.empty()) return fail(Errc::invalid, "a label needs a key");
        if (key.size() > wire::max_label_bytes || value.size() > wire::max_label_bytes) {
            return fail(Errc::invalid,
                        fmt::format("label '{}' is too long (key and value at most {} bytes each)",
                                    wire::clipped(key), wire::max_label_bytes));
        }
    }
    return {};
}

}  // namespace

Result<void> check(const CreateRequest& request, const config::ServerConfig::Limits& limits) {
    if (request.cpus == 0) return fail(Errc::invalid, "cpus must be at least 1");
    if (request.cpus > limits.max_vcpus_per_vm) {
        return fail(Errc::limit_exceeded, fmt::format("{} cpus asked for, at most {} are allowed",
                                                      request.cpus, limits.max_vcpus_per_vm));
    }
    if (request.memory < least_memory) {
        return fail(Errc::invalid, fmt::format("mem_mib must be at least {}", least_memory.count));
    }
    if (request.memory > limits.max_memory_per_vm) {
        return fail(Errc::limit_exceeded, fmt::format("{} MiB of memory asked for, at most {} are allowed",
                                                      request.memory.count, limits.max_memory_per_vm.count));
    }
    if (request.disk && *request.disk > limits.max_disk_per_vm) {
        return fail(Errc::limit_exceeded, fmt::format("{} MiB of disk asked for, at most {} are allowed",
                                                      request.disk->count, limits.max_disk_per_vm.count));
    }
    if (!request.image.empty()) {
        if (auto image = VmName::parse(request.image); !image)
            return fail(Errc::invalid, "invalid image name");
    }
    if (request.idempotency_key.size() > longest_key) {
        return fail(Errc::invalid, fmt::format("the idempotency key is longer than {} bytes", longest_key));
    }
    if (auto env = wire::check_env(request.env); !env) return env;
    if (auto network = check(request.network); !network) return network;
    if (auto ports = check(request.ports); !ports) return ports;
    const Resources resources = resources_of_new_vm(request.resources, limits);
    if (auto fits = check(resources, request.memory, limits); !fits) return fits;
    return check_labels(request);
}

Result<MiB> disk_size(const CreateRequest& request, std::uint64_t image_bytes,
                      const config::ServerConfig::Limits& limits) {
    const MiB image{(image_bytes + MiB{1}.bytes() - 1) / MiB{1}.bytes()};
    const MiB size = request.disk.value_or(image);
    if (size < image) {
        return fail(Errc::invalid,
                    fmt::format("{} MiB of disk asked for, but the image has {}", size.count, image.count));
    }
    if (size > limits.max_disk_per_vm) {
        return fail(Errc::limit_exceeded,
                    fmt::format("the image has {} MiB, at most {} MiB of disk are allowed", size.count,
                                limits.max_disk_per_vm.count));
    }
    return size;
}

std::string fingerprint(const CreateRequest& request) {
    namespace json = boost::json;
    json::object object;
    object["name"] = request.name.text();
    object["cpus"] = request.cpus;
    object["memory"] = request.memory.count;
    if (request.disk) object["disk"] = request.disk->count;
    object["labels"] = json::value_from(request.labels);
    object["env"] = json::value_from(request.env);
    object["image"] = request.image;
    object["network"] = request.network.to_json();
    json::array ports;
    for (const PublishedPort& port : request.ports)
        ports.push_back(json::array{port.guest, port.host, port.public_access});
    object["ports"] = std::move(ports);
    if (request.boot) object["boot"] = true;
    put_resources(object, request.resources.applied_to({}));
    return sha256_hex(json::serialize(object));
}

}  // namespace noid::vm
