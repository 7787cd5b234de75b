#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <variant>

#include "base/error.hpp"
#include "privileged/message.hpp"
#include "vmm/warden.hpp"

// All that the server can ask of its privileged part.
namespace noid::privileged {

struct AdoptRequest {
    ProcessIdentity process;
    std::filesystem::path directory;  // the VM's
};
// To a process that was started or adopted over this connection. The only request that is not answered.
struct SignalRequest {
    std::uint64_t handle = 0;
    int number = 0;  // SIGTERM or SIGKILL
};
struct FilesRequest {
    std::uint64_t handle = 0;
};
struct ProcessesRequest {};
// A connection to noid-netd, at the configured socket.
struct NetworkRequest {};

// What VMMs have made in that directory is removed, as far as goes at once.
struct ReclaimRequest {
    std::filesystem::path directory;
};

using Request = std::variant<vmm::ProcessRequest, AdoptRequest, SignalRequest, FilesRequest, ProcessesRequest,
                             NetworkRequest, ReclaimRequest>;

// The descriptors of an answer to FilesRequest, each if it is there.
[[nodiscard]] inline std::array<Fd*, 6> files_in(vmm::ProcessFiles& files) noexcept {
    return {&files.memory,       &files.pagemap, &files.maps,
            &files.smaps_rollup, &files.output,  &files.userfaultfd};
}

// The bytes of a request; its descriptors go beside them.
[[nodiscard]] std::string encode(const vmm::ProcessRequest& request);
[[nodiscard]] std::string encode(const AdoptRequest& request);
[[nodiscard]] std::string encode(const SignalRequest& request);
[[nodiscard]] std::string encode(const FilesRequest& request);
[[nodiscard]] std::string encode(const ProcessesRequest& request);
[[nodiscard]] std::string encode(const NetworkRequest& request);
[[nodiscard]] std::string encode(const ReclaimRequest& request);

// invalid for everything that is not exactly a request with values within their bounds. Trusts nobody.
[[nodiscard]] Result<Request> decode(Packet packet);

}  // namespace noid::privileged
