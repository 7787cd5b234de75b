#include "firecracker/stdio_fifos.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/write.hpp>
#include <cerrno>

#include "base/file.hpp"
#include "firecracker/metrics.hpp"

namespace noid::firecracker {

namespace {

constexpr std::size_t read_limit = 64 * 1024;
constexpr std::size_t words_limit = 2 * 1024;

Result<void> make_fifo(const Fd& directory, const char* name) {
    if (::unlinkat(directory.get(), name, 0) != 0 && errno != ENOENT)
        return fail_errno(errno, std::string{"cannot remove the old "} + name);
    if (::mkfifoat(directory.get(), name, 0600) != 0)
        return fail_errno(errno, std::string{"cannot make "} + name);
    return {};
}

Result<Fd> open_fifo(const Fd& directory, const char* name, int access) {
    return open_file_at(directory, name, access | O_NONBLOCK | O_NOFOLLOW);
}

}  // namespace

StdioFifos::StdioFifos(asio::any_io_executor executor, Fd console_in, Fd console_out, Fd log)
    : console_in_{executor, console_in.release()},
      console_out_{executor, console_out.release()},
      log_{executor, log.release()} {
    log_.non_blocking(true);
}

Result<StdioFifos> StdioFifos::create(asio::any_io_executor executor, const Fd& directory,
                                      std::vector<launcher::InheritedFd>& descriptors) {
    struct Stream {
        const char* name;
        int number;
    };
    for (const auto& [name, number] : {Stream{input_fifo, STDIN_FILENO}, Stream{output_fifo, STDOUT_FILENO},
                                       Stream{log_fifo, STDERR_FILENO}}) {
        if (auto made = make_fifo(directory, name); !made) return fail(std::move(made.error()));
        auto end = open_fifo(directory, name, O_RDWR);
        if (!end) return fail(std::move(end.error()));
        descriptors.push_back({number, std::move(*end)});
    }
    if (auto made = make_fifo(directory, metrics_fifo); !made) return fail(std::move(made.error()));
    return open(std::move(executor), directory);
}

Result<StdioFifos> StdioFifos::open(asio::any_io_executor executor, const Fd& directory) {
    auto in = open_fifo(directory, input_fifo, O_WRONLY);
    if (!in && in.error().cause == std::errc::no_such_device_or_address)
        return fail(Errc::unavailable, "firecracker has ended");
    if (!in) return fail(std::move(in.error()));
    auto out = open_fifo(directory, output_fifo, O_RDONLY);
    if (!out) return fail(std::move(out.error()));
    auto log = open_fifo(directory, log_fifo, O_RDONLY);
    if (!log) return fail(std::move(log.error()));
    return StdioFifos{std::move(executor), std::move(*in), std::move(*out), std::move(*log)};
}

Awaitable<Result<std::string>> StdioFifos::read_console() {
    std::string bytes(read_limit, '\0');
    boost::system::error_code error;
    const auto size = co_await console_out_.async_read_some(asio::buffer(bytes),
                                                            asio::redirect_error(asio::use_awaitable, error));
    if (error == asio::error::eof) co_return fail(Errc::unavailable, "the VM has ended");
    if (error) co_return fail_errno(error.value(), "cannot read the console");
    bytes.resize(size);
    co_return bytes;
}

Awaitable<Result<void>> StdioFifos::write_console(std::string_view bytes) {
    boost::system::error_code error;
    co_await asio::async_write(console_in_, asio::buffer(bytes.data(), bytes.size()),
                               asio::redirect_error(asio::use_awaitable, error));
    if (error == asio::error::broken_pipe) co_return fail(Errc::unavailable, "the VM has ended");
    if (error) co_return fail_errno(error.value(), "cannot write to the console");
    co_return Result<void>{};
}

Awaitable<Result<void>> StdioFifos::log_grows() {
    boost::system::error_code error;
    co_await log_.async_wait(asio::posix::stream_descriptor::wait_read,
                             asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return fail_errno(error.value(), "cannot wait for firecracker's log");
    if (!drain_log()) co_return fail(Errc::unavailable, "firecracker has ended");
    co_return Result<void>{};
}

const std::string& StdioFifos::last_words() {
    drain_log();
    return last_words_;
}

bool StdioFifos::drain_log() {
    std::array<char, 4096> chunk;
    for (std::size_t total = 0; total < read_limit;) {
        const auto size = ::read(log_.native_handle(), chunk.data(), chunk.size());
        if (size < 0 && errno == EINTR) continue;
        if (size <= 0) return size < 0;
        total += static_cast<std::size_t>(size);
        last_words_.append(chunk.data(), static_cast<std::size_t>(size));
        if (last_words_.size() > words_limit) last_words_.erase(0, last_words_.size() - words_limit);
    }
    return true;
}

}  // namespace noid::firecracker
