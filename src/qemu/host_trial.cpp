#include "qemu/host_trial.hpp"

#include <openssl/evp.h>
#include <time.h>
#include <x86intrin.h>

#include <array>
#include <sstream>
#include <string_view>
#include <utility>

#include "launcher/captured_output.hpp"
#include "launcher/process.hpp"
#include "qemu/process_spec.hpp"

namespace noid::qemu {

namespace {

using namespace std::chrono_literals;
using launcher::CapturedOutput;
using launcher::ExitStatus;
using launcher::Process;

struct Finished {
    ExitStatus status;
    std::string output;
};

// Has a program run to its end, or kills it when `limit` has passed.
Awaitable<Result<Finished>> run(asio::thread_pool& pool, vmm::Warden& warden, vmm::ProcessRequest request,
                                std::chrono::milliseconds limit) {
    auto output = CapturedOutput::create(16 * 1024);
    if (!output) co_return fail(std::move(output.error()));
    for (const int number : {1, 2}) {
        auto writer = output->writer();
        if (!writer) co_return fail(std::move(writer.error()));
        request.descriptors.push_back({number, std::move(*writer)});
    }
    const auto start = [&] { return warden.start(std::move(request)); };
    auto launched = co_await on_pool(pool, start);
    if (!launched) co_return fail(std::move(launched.error()));
    Process process{co_await asio::this_coro::executor, std::move(*launched)};
    const auto wait = [&]() -> Awaitable<Result<ExitStatus>> { co_return co_await process.exited(); };
    auto status = co_await within(limit, wait());
    if (!status) {
        co_await process.stop(0ms);
        co_return fail(std::move(status.error()));
    }
    co_return Finished{*status, output->text(1000)};
}

}  // namespace

Awaitable<Result<std::string>> version_of(asio::thread_pool& pool, vmm::Warden& warden) {
    vmm::ProcessRequest request;
    request.program = vmm::QemuVersion{};
    auto finished = co_await run(pool, warden, std::move(request), 10s);
    if (!finished) co_return fail(std::move(finished.error()).at("ask QEMU for its version"));
    constexpr std::string_view before = "version ";
    const auto found = finished->output.find(before);
    if (found == std::string::npos)
        co_return fail(Errc::unsupported, "this is no QEMU: it does not tell its version");
    const auto begin = found + before.size();
    const auto end = finished->output.find_first_of(" \n(", begin);
    co_return finished->output.substr(begin, end - begin);
}

Awaitable<Result<void>> try_kvm(asio::thread_pool& pool, vmm::Warden& warden) {
    if (const auto& kvm = warden.devices().kvm; !kvm) co_return fail(kvm.error());
    vmm::ProcessRequest request;
    request.program = vmm::QemuTrial{};
    // Where it does not work it fails at once; a busy host that is itself emulated takes seconds to succeed.
    auto finished = co_await run(pool, warden, std::move(request), 60s);
    if (!finished) {
        const auto kind = finished.error().code == Errc::not_found ? Errc::not_found : Errc::unavailable;
        co_return fail(kind, "trial guest under KVM: " + finished.error().what);
    }
    if (finished->status == ExitStatus{ExitStatus::How::exited, trial_exit_status}) co_return Result<void>{};
    co_return fail(Errc::unavailable, "trial guest under KVM: QEMU " + launcher::describe(finished->status) +
                                          ": " + finished->output);
}

Awaitable<std::uint64_t> measure_tsc_khz() {
    struct Sample {
        std::uint64_t ticks;
        std::uint64_t nanoseconds;
    };
    const auto sample = [] {
        timespec now{};
        ::clock_gettime(CLOCK_MONOTONIC_RAW, &now);
        return Sample{__rdtsc(), static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000U +
                                     static_cast<std::uint64_t>(now.tv_nsec)};
    };
    const Sample first = sample();
    asio::steady_timer timer{co_await asio::this_coro::executor, 50ms};
    co_await timer.async_wait(asio::use_awaitable);
    const Sample last = sample();
    co_return (last.ticks - first.ticks) * 1'000'000U / (last.nanoseconds - first.nanoseconds);
}

std::string cpu_identity(const std::string& cpuinfo) {
    std::istringstream lines{cpuinfo};
    std::string identity;
    for (std::string line; std::getline(lines, line) && !line.empty();) {
        for (const std::string_view key : {"vendor_id", "cpu family", "model\t", "stepping", "flags"})
            if (line.starts_with(key)) identity += line + "\n";
    }
    return identity;
}

std::string fingerprint(const std::string& version, const std::string& accelerator,
                        const std::string& host_cpu) {
    const std::string text = "qemu\n" + version + "\n" + accelerator + "\n" + host_cpu;
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    std::size_t size = 0;
    if (EVP_Q_digest(nullptr, "SHA256", nullptr, text.data(), text.size(), digest.data(), &size) != 1)
        return {};
    constexpr std::size_t kept = 16;
    constexpr std::string_view digits = "0123456789abcdef";
    std::string hex;
    for (std::size_t i = 0; i < kept; ++i) {
        hex.push_back(digits[digest[i] >> 4]);
        hex.push_back(digits[digest[i] & 15]);
    }
    return hex;
}

}  // namespace noid::qemu
