#include "doctor_command.hpp"

#include <fmt/format.h>

#include <cstdio>
#include <vector>

#include "doctor/host_checks.hpp"
#include "doctor/network_checks.hpp"
#include "doctor/user_checks.hpp"
#include "doctor/vmm_checks.hpp"

namespace noid::server {
namespace {

const char* mark(doctor::Verdict verdict) {
    switch (verdict) {
        case doctor::Verdict::ok:
            return "ok  ";
        case doctor::Verdict::warning:
            return "warn";
        case doctor::Verdict::failure:
            return "FAIL";
    }
    return "FAIL";
}

}  // namespace

int doctor(const config::ConfigSource& source) {
    const auto config = config::load_server_config(source, true);
    if (!config) {
        fmt::print(stderr, "Error: {}\n", config.error().what);
        return 2;
    }
    std::vector<doctor::Finding> findings = {
        doctor::check_kvm(*config),
        doctor::check_vmm(*config),
        doctor::check_server_user(*config),
        doctor::check_kernel(*config),
        doctor::check_initrd(*config),
        doctor::check_rootfs(*config),
        doctor::check_data_directory(*config),
        doctor::check_reflink(*config),
        doctor::check_free_disk(*config),
        doctor::check_listen_address(*config),
        doctor::check_pauses(),
        doctor::check_ip_forwarding(),
        doctor::check_entropy(),
        doctor::check_descriptor_limit(*config),
        doctor::check_cgroups(),
    };
    const auto network = doctor::check_network(*config);
    findings.insert(findings.end(), network.begin(), network.end());
    bool failed = false;
    for (const auto& finding : findings) {
        fmt::print("{}  {:<16} {}\n", mark(finding.verdict), finding.subject, finding.found);
        if (!finding.advice.empty()) fmt::print("      {:<16} -> {}\n", "", finding.advice);
        failed |= finding.verdict == doctor::Verdict::failure;
    }
    return failed ? 1 : 0;
}

}  // namespace noid::server
