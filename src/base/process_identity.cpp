#include "base/process_identity.hpp"

#include <fcntl.h>
#include <sys/syscall.h>

#include <cerrno>
#include <charconv>
#include <string>
#include <string_view>

#include "base/file.hpp"

namespace noid {

Result<ProcessIdentity> identify(pid_t pid) {
    const std::string name = "/proc/" + std::to_string(pid) + "/stat";
    const auto text = read_file(name, 4096);
    if (!text) return fail(Errc::not_found, "no process " + std::to_string(pid));
    // Field 2, the command in parentheses, may hold spaces and parentheses itself.
    const auto command_end = text->rfind(')');
    if (command_end == std::string::npos) return fail(Errc::corrupt, "unexpected text in " + name);
    std::string_view rest = std::string_view{*text}.substr(command_end + 1);
    constexpr int fields_before_start_time = 19;  // fields 3 to 21, each after one space
    for (int i = 0; i <= fields_before_start_time; ++i) {
        const auto space = rest.find(' ');
        if (space == std::string_view::npos) return fail(Errc::corrupt, "unexpected text in " + name);
        rest.remove_prefix(space + 1);
    }
    ProcessIdentity identity{.pid = pid};
    const auto parsed = std::from_chars(rest.data(), rest.data() + rest.size(), identity.start_time);
    if (parsed.ec != std::errc{}) return fail(Errc::corrupt, "unexpected text in " + name);
    return identity;
}

Result<Fd> open_process(const ProcessIdentity& identity) {
    if (identity.pid <= 0) return fail(Errc::not_found, "no process");
    const std::string gone = "process " + std::to_string(identity.pid) + " is gone";
    Fd pidfd{static_cast<int>(::syscall(SYS_pidfd_open, identity.pid, 0))};
    if (!pidfd) {
        if (errno == ESRCH) return fail(Errc::not_found, gone);
        return fail_errno(errno, "cannot open process " + std::to_string(identity.pid));
    }
    // Looked at after the pidfd was made: if the pid had been reused before, the start time differs; if
    // the process ends in between, the pidfd still means the old one and reports its end.
    const auto now = identify(identity.pid);
    if (!now || *now != identity) return fail(Errc::not_found, gone);
    return pidfd;
}

}  // namespace noid
