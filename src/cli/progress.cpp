#include "cli/progress.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "cli/terminal.hpp"

namespace noid::cli {
namespace {

using namespace std::chrono_literals;

constexpr std::string_view erase_line = "\r\x1b[K";

void draw_line(std::string_view line) {
    std::fputs(fmt::format("{}{}", erase_line, line).c_str(), stderr);
    std::fflush(stderr);
}

}  // namespace

bool can_draw_progress(bool json) {
    const char* kind = std::getenv("TERM");
    return !json && is_terminal(STDERR_FILENO) && kind && std::string_view{kind} != "dumb";
}

struct Spinner::Drawing : std::enable_shared_from_this<Spinner::Drawing> {
    Drawing(const asio::any_io_executor& executor, std::string what)
        : timer{executor}, text{std::move(what)} {}

    void next_frame(std::chrono::milliseconds wait) {
        timer.expires_after(wait);
        timer.async_wait([self = shared_from_this()](const boost::system::error_code& stopped) {
            if (stopped || self->ended) return;
            constexpr std::array<std::string_view, 10> marks{"⠋", "⠙", "⠹", "⠸", "⠼",
                                                             "⠴", "⠦", "⠧", "⠇", "⠏"};
            draw_line(fmt::format("{} {}", marks[self->frame++ % marks.size()], self->text));
            self->next_frame(100ms);
        });
    }

    asio::steady_timer timer;
    std::string text;
    std::size_t frame = 0;
    bool ended = false;
};

Spinner::Spinner(asio::any_io_executor executor, std::string text, bool shown) {
    if (!shown) return;
    drawing_ = std::make_shared<Drawing>(executor, std::move(text));
    drawing_->next_frame(200ms);
}

Spinner::~Spinner() {
    if (!drawing_) return;
    drawing_->ended = true;
    drawing_->timer.cancel();
    if (drawing_->frame > 0) draw_line("");
}

ProgressBar::ProgressBar(std::string text, std::optional<std::uint64_t> total, bool shown)
    : text_{std::move(text)}, total_{total}, shown_{shown}, started_{std::chrono::steady_clock::now()} {}

ProgressBar::~ProgressBar() {
    if (shown_ && drawn_ != std::chrono::steady_clock::time_point{}) draw_line("");
}

void ProgressBar::expect(std::uint64_t total) {
    if (total > 0) total_ = total;
}

void ProgressBar::advance(std::uint64_t bytes) {
    done_ += bytes;
    const auto now = std::chrono::steady_clock::now();
    if (!shown_ || now - drawn_ < 100ms) return;
    drawn_ = now;
    draw();
}

void ProgressBar::draw() {
    const std::chrono::duration<double> elapsed = drawn_ - started_;
    const auto speed = elapsed.count() > 0.1 ? static_cast<double>(done_) / elapsed.count() : 0.0;
    std::string line = fmt::format("{}  {}", text_, human_size(done_));
    if (total_ && *total_ > 0) {
        constexpr std::uint64_t cells = 30;
        const auto filled = std::min(cells, done_ * cells / *total_);
        line = fmt::format("{} [{:#<{}}{:-<{}}] {}%  {} of {}", text_, "", filled, "", cells - filled,
                           std::min<std::uint64_t>(100, done_ * 100 / *total_), human_size(done_),
                           human_size(*total_));
    }
    if (speed > 0) line += fmt::format("  {}/s", human_size(static_cast<std::uint64_t>(speed)));
    draw_line(line);
}

std::string human_size(std::uint64_t bytes) {
    constexpr std::array<std::string_view, 5> units{"B", "KiB", "MiB", "GiB", "TiB"};
    auto size = static_cast<double>(bytes);
    std::size_t unit = 0;
    while (size >= 1024 && unit + 1 < units.size()) {
        size /= 1024;
        ++unit;
    }
    return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", size, units[unit]);
}

}  // namespace noid::cli
