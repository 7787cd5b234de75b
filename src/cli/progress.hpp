#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/async.hpp"

namespace noid::cli {

// Whether progress may be drawn: stderr is a terminal that can, and nobody asked for JSON.
[[nodiscard]] bool can_draw_progress(bool json);

// A turning mark with a text on stderr while the object lives, from the 200th millisecond on (what
// is quick does not flicker); leaves no trace. Draws nothing when `shown` is false. Lives on the
// loop's thread.
class Spinner {
  public:
    Spinner(asio::any_io_executor executor, std::string text, bool shown);
    ~Spinner();
    Spinner(const Spinner&) = delete;
    Spinner& operator=(const Spinner&) = delete;

  private:
    struct Drawing;
    std::shared_ptr<Drawing> drawing_;
};

// Bytes moved, speed and, when the total is known, a bar; on stderr while the object lives.
class ProgressBar {
  public:
    ProgressBar(std::string text, std::optional<std::uint64_t> total, bool shown);
    ~ProgressBar();
    ProgressBar(const ProgressBar&) = delete;
    ProgressBar& operator=(const ProgressBar&) = delete;

    void advance(std::uint64_t bytes);
    // The total, which was not known before; 0: it is not known now either.
    void expect(std::uint64_t total);

  private:
    void draw();

    std::string text_;
    std::optional<std::uint64_t> total_;
    bool shown_;
    std::uint64_t done_ = 0;
    std::chrono::steady_clock::time_point started_;
    std::chrono::steady_clock::time_point drawn_;
};

// "1.5 GiB"
[[nodiscard]] std::string human_size(std::uint64_t bytes);

}  // namespace noid::cli
