#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "base/async.hpp"
#include "vm/broadcast.hpp"
#include "vm/console.hpp"
#include "vm/rotated_file.hpp"

namespace noid::vm {

// What a VM's serial console said, kept bounded on disk, and whoever reads along. Used on the VM's
// strand; the disk is touched on the pool.
class ConsoleLog : public std::enable_shared_from_this<ConsoleLog> {
  public:
    [[nodiscard]] static std::shared_ptr<ConsoleLog> create(asio::any_io_executor strand,
                                                            asio::thread_pool& files,
                                                            std::filesystem::path path);

    // Keeps the bytes and wakes the readers. What cannot be written (disk full) is lost; the first
    // loss is logged.
    Awaitable<void> append(std::string bytes);
    // A reader that begins `tail_bytes` before the end. Without `follow` it ends there.
    [[nodiscard]] std::shared_ptr<ConsoleReader> reader(std::uint64_t tail_bytes, bool follow);
    // The VM is gone: readers come to their end.
    void close();
    // close(), and the files are removed.
    Awaitable<Result<void>> remove();

  private:
    class Reader;
    ConsoleLog(asio::any_io_executor strand, asio::thread_pool& files, std::filesystem::path path);

    asio::thread_pool& files_;
    std::shared_ptr<RotatedFile> file_;  // shared with work on the pool
    Broadcast grown_;
    bool closed_ = false;
    bool losing_ = false;
};

}  // namespace noid::vm
