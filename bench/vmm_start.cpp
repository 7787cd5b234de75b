// What confinement adds to a VMM's start: real VMMs, started in turn with it and without, each until its
// guest's CPU runs. Everything after that is the guest's work, and would hide what is measured.

#include <elf.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <array>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/thread_pool.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "base/log.hpp"
#include "base/temporary_directory.hpp"
#include "firecracker/vmm.hpp"
#include "launcher/cgroup.hpp"
#include "privileged/local_warden.hpp"
#include "qemu/qemu.hpp"

namespace noid {
namespace {

using Clock = std::chrono::steady_clock;

struct Plan {
    std::string vmm = "qemu";
    std::string program = "qemu-system-x86_64";
    std::filesystem::path kernel;
    int turns = 200;  // what is looked for is smaller than what starts differ by
};

// An ELF whose code does nothing, to be entered as PVH says (xen/include/public/elfnote.h,
// XEN_ELFNOTE_PHYS32_ENTRY), which both VMMs do.
std::string idle_kernel() {
    constexpr std::uint32_t place = 0x100000;  // 1 MiB, where kernels begin
    constexpr std::uint32_t code_at = 0x100;
    constexpr std::size_t size = 4096;
    constexpr std::string_view code{"\xf4\xeb\xfd", 3};  // hlt; jmp to it
    struct {
        Elf64_Ehdr file{};
        Elf64_Phdr load{};
        Elf64_Phdr notes{};
        Elf64_Nhdr note{.n_namesz = 4, .n_descsz = sizeof(std::uint64_t), .n_type = 18};
        std::array<char, 4> name{'X', 'e', 'n', 0};
        std::uint64_t entry = place + code_at;
    } head;
    head.file.e_ident[EI_CLASS] = ELFCLASS64;
    head.file.e_ident[EI_DATA] = ELFDATA2LSB;
    head.file.e_ident[EI_VERSION] = EV_CURRENT;
    std::memcpy(head.file.e_ident, ELFMAG, SELFMAG);
    head.file.e_type = ET_EXEC;
    head.file.e_machine = EM_X86_64;
    head.file.e_version = EV_CURRENT;
    head.file.e_entry = head.entry;
    head.file.e_phoff = offsetof(decltype(head), load);
    head.file.e_ehsize = sizeof head.file;
    head.file.e_phentsize = sizeof head.load;
    head.file.e_phnum = 2;
    head.load = {.p_type = PT_LOAD,
                 .p_flags = PF_R | PF_X,
                 .p_offset = 0,
                 .p_vaddr = place,
                 .p_paddr = place,
                 .p_filesz = size,
                 .p_memsz = size,
                 .p_align = size};
    head.notes = {.p_type = PT_NOTE,
                  .p_flags = PF_R,
                  .p_offset = offsetof(decltype(head), note),
                  .p_vaddr = place + offsetof(decltype(head), note),
                  .p_paddr = place + offsetof(decltype(head), note),
                  .p_filesz = sizeof head - offsetof(decltype(head), note),
                  .p_memsz = sizeof head - offsetof(decltype(head), note),
                  .p_align = 4};
    static_assert(sizeof head <= code_at);
    std::string file{reinterpret_cast<const char*>(&head), sizeof head};
    file.resize(code_at);
    file += code;
    file.resize(size);
    return file;
}

template <class T>
T must(Result<T> result) {
    if (!result) throw std::runtime_error{result.error().full()};
    if constexpr (!std::is_void_v<T>) return std::move(*result);
}

// A VMM of that kind, and who starts it.
class Side {
  public:
    static Awaitable<std::unique_ptr<Side>> open(const Plan& plan, bool confined, asio::thread_pool& pool) {
        auto side = std::make_unique<Side>();
        privileged::LocalWarden::Options options{
            .qemu = plan.program, .firecracker = plan.program, .data_dir = side->home_.path()};
        if (confined) {
            options.users.emplace(launcher::UserRange{.first = 2'100'000, .count = 4});
            // Without control groups it says so: then they are not measured.
            const auto place = launcher::Cgroups::usual_directory();
            auto groups = place ? launcher::Cgroups::open(*place) : fail(place.error());
            if (groups) options.cgroups = std::make_shared<launcher::Cgroups>(std::move(*groups));
            if (!groups) fmt::print(stderr, "without control groups: {}\n", groups.error().full());
        }
        side->warden_ = must(privileged::LocalWarden::open(std::move(options)));
        if (plan.vmm == "firecracker") {
            auto opened = co_await firecracker::open(side->warden_, pool);
            side->vmm_ = must(std::move(opened));
        } else {
            qemu::Options qemu;
            qemu.warden = side->warden_;
            auto opened = co_await qemu::create(pool, std::move(qemu));
            side->vmm_ = must(std::move(opened));
        }
        co_return side;
    }

    // Milliseconds.
    Awaitable<double> start_and_end(const Plan& plan) {
        vmm::MachineSpec spec;
        spec.id = "a";
        spec.directory = home_.path() / spec.id;
        std::filesystem::create_directory(spec.directory);
        std::ofstream{spec.directory / "rootfs.ext4"};
        std::filesystem::resize_file(spec.directory / "rootfs.ext4", 1 << 20);
        spec.memory = MiB{128};
        spec.kernel = plan.kernel;
        // As the privileged part does when it is quiet.
        warden_->get_ready();
        const auto began = Clock::now();
        auto started = co_await vmm_->start(spec);
        const std::chrono::duration<double, std::milli> took = Clock::now() - began;
        auto machine = must(std::move(started));
        auto killed = co_await machine->kill(std::chrono::milliseconds{0});
        must(std::move(killed));
        co_await machine->exited();
        machine.reset();
        std::filesystem::remove_all(spec.directory);
        co_return took.count();
    }

  private:
    TemporaryDirectory home_ = must(TemporaryDirectory::create());
    std::shared_ptr<vmm::Warden> warden_;
    std::unique_ptr<vmm::Vmm> vmm_;
};

// "confined 12.3" and "bare 10.1", a line each.
Awaitable<void> measure(const Plan& plan, asio::thread_pool& pool) {
    const auto confined = co_await Side::open(plan, true, pool);
    const auto bare = co_await Side::open(plan, false, pool);
    for (int turn = 0; turn <= plan.turns; ++turn) {
        const double with = co_await confined->start_and_end(plan);
        const double without = co_await bare->start_and_end(plan);
        // The first warms the caches.
        if (turn > 0) fmt::print("confined {:.3f}\nbare {:.3f}\n", with, without);
    }
}

int run(int argc, char** argv) {
    Plan plan;
    CLI::App app{"Starts of a VMM, confined and not", "noid-bench-start"};
    app.add_option("--vmm", plan.vmm)->check(CLI::IsMember({"qemu", "firecracker"}));
    app.add_option("--program", plan.program);
    app.add_option("--turns", plan.turns);
    CLI11_PARSE(app, argc, argv);
    // Standard output is for numbers.
    log::set_up(log::Level::error, log::Format::text);
    const auto files = must(TemporaryDirectory::create());
    plan.kernel = files.path() / "kernel";
    std::ofstream{plan.kernel} << idle_kernel();
    asio::io_context loop;
    asio::thread_pool pool{1};
    std::exception_ptr thrown;
    asio::co_spawn(loop, measure(plan, pool), [&](std::exception_ptr e) { thrown = e; });
    loop.run();
    if (thrown) std::rethrow_exception(thrown);
    return 0;
}

}  // namespace
}  // namespace noid

int main(int argc, char** argv) {
    try {
        return noid::run(argc, argv);
    } catch (const std::exception& error) {
        fmt::print(stderr, "noid-bench-start: {}\n", error.what());
        return 1;
    }
}
