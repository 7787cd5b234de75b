#include "vm/console_log.hpp"

#include <algorithm>

#include "base/log.hpp"

namespace noid::vm {

namespace {

constexpr std::size_t piece_bytes = 64 * 1024;

}  // namespace

class ConsoleLog::Reader final : public ConsoleReader {
  public:
    Reader(std::shared_ptr<ConsoleLog> log, std::uint64_t position, bool follow)
        : log_{std::move(log)}, position_{position}, follow_{follow} {}

    Awaitable<Result<std::string>> next() override {
        while (true) {
            auto read = [file = log_->file_, position = position_] {
                return file->read(position, piece_bytes);
            };
            auto piece = co_await on_pool(log_->files_, std::move(read));
            if (!piece) co_return fail(std::move(piece.error()));
            position_ = piece->position + piece->bytes.size();
            if (!piece->bytes.empty() || !follow_ || log_->closed_) co_return std::move(piece->bytes);
            // Something may have come while the pool was reading.
            if (log_->file_->end() == position_) co_await log_->grown_.wait();
        }
    }

  private:
    std::shared_ptr<ConsoleLog> log_;
    std::uint64_t position_;
    bool follow_;
};

ConsoleLog::ConsoleLog(asio::any_io_executor strand, asio::thread_pool& files, std::filesystem::path path)
    : files_{files}, file_{std::make_shared<RotatedFile>(std::move(path))}, grown_{std::move(strand)} {}

std::shared_ptr<ConsoleLog> ConsoleLog::create(asio::any_io_executor strand, asio::thread_pool& files,
                                               std::filesystem::path path) {
    return std::shared_ptr<ConsoleLog>{new ConsoleLog{std::move(strand), files, std::move(path)}};
}

Awaitable<void> ConsoleLog::append(std::string bytes) {
    auto self = shared_from_this();
    auto write = [file = file_, &bytes] { return file->append(bytes); };
    auto written = co_await on_pool(files_, std::move(write));
    if (!written && !losing_) log::warn("console output is lost", {{"reason", written.error().what}});
    losing_ = !written;
    grown_.notify();
}

std::shared_ptr<ConsoleReader> ConsoleLog::reader(std::uint64_t tail_bytes, bool follow) {
    const std::uint64_t end = file_->end();
    return std::make_shared<Reader>(shared_from_this(), end - std::min(end, tail_bytes), follow);
}

void ConsoleLog::close() {
    closed_ = true;
    grown_.notify();
}

Awaitable<Result<void>> ConsoleLog::remove() {
    close();
    auto unlink = [file = file_] { return file->remove(); };
    co_return co_await on_pool(files_, std::move(unlink));
}

}  // namespace noid::vm
