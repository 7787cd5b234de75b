#pragma once

#include <cstddef>
#include <string>

#include "base/error.hpp"
#include "base/fd.hpp"

namespace noid::launcher {

// The first `limit` bytes that a process writes to its standard output and error. What comes after is
// refused by the kernel (EPERM), so that a program that is made to complain without end fills neither disk
// nor memory, never waits for a reader, and may outlive the process that started it.
class CapturedOutput {
  public:
    [[nodiscard]] static Result<CapturedOutput> create(std::size_t limit);
    // The output of a process that runs already and whose standard error is such a capture.
    [[nodiscard]] static Result<CapturedOutput> of_process(pid_t pid);
    // One that somebody else has opened, for reading at least. corrupt if it is none.
    [[nodiscard]] static Result<CapturedOutput> over(Fd memory);

    // A descriptor for ProcessSpec::descriptors; they share one position.
    [[nodiscard]] Result<Fd> writer() const;
    // What has been written so far, or its last `limit` bytes.
    [[nodiscard]] std::string text(std::size_t limit) const;

  private:
    explicit CapturedOutput(Fd memory) noexcept : memory_{std::move(memory)} {}

    Fd memory_;
};

}  // namespace noid::launcher
