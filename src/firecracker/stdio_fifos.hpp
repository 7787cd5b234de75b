#pragma once

#include <boost/asio/posix/stream_descriptor.hpp>
#include <string>
#include <vector>

#include "base/async.hpp"
#include "base/error.hpp"
#include "base/fd.hpp"
#include "launcher/launcher.hpp"

namespace noid::firecracker {

// The name of the FIFO that takes Firecracker's log, for --log-path.
inline constexpr const char* log_fifo = "vmm.log";
inline constexpr const char* input_fifo = "console.in";
inline constexpr const char* output_fifo = "console.out";

// Firecracker's standard streams and log: three FIFOs in the VM's directory. Firecracker's ends are open for
// reading and writing and do not block, so it never sees an end of file or a broken pipe, and keeps running
// with the same console when this server is replaced; what nobody reads is dropped when 64 KiB wait.
// When it has ended, the reading ends here see the end of file. Used on one strand.
class StdioFifos {
  public:
    // Makes the FIFOs, in place of older ones, also the one for metrics, and puts Firecracker's ends into
    // `descriptors`.
    [[nodiscard]] static Result<StdioFifos> create(asio::any_io_executor executor, const Fd& directory,
                                                   std::vector<launcher::InheritedFd>& descriptors);
    // Opens those of a Firecracker that runs already. unavailable when it has ended.
    [[nodiscard]] static Result<StdioFifos> open(asio::any_io_executor executor, const Fd& directory);

    // What the guest writes to its console, at most 64 KiB. unavailable at the end.
    Awaitable<Result<std::string>> read_console();
    // Waits until the guest's console takes all of it. unavailable when Firecracker has ended; the program
    // must ignore SIGPIPE.
    Awaitable<Result<void>> write_console(std::string_view bytes);
    // Waits until there is something new in the log. unavailable when Firecracker has ended.
    Awaitable<Result<void>> log_grows();
    // The end of what Firecracker has logged or complained about, at most 2 KiB. Empties the FIFO.
    [[nodiscard]] const std::string& last_words();

  private:
    StdioFifos(asio::any_io_executor executor, Fd console_in, Fd console_out, Fd log);
    // False at the end of the file.
    bool drain_log();

    asio::posix::stream_descriptor console_in_;
    asio::posix::stream_descriptor console_out_;
    asio::posix::stream_descriptor log_;
    std::string last_words_;
};

}  // namespace noid::firecracker
