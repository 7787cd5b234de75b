#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "base/async.hpp"
#include "base/error.hpp"

namespace noid::vm {

// A reader of one VM's serial console: first what the log still holds from `from`, then what comes.
// Any number per VM. Lives on the VM's strand.
class ConsoleReader {
  public:
    ConsoleReader() = default;
    ConsoleReader(const ConsoleReader&) = delete;
    ConsoleReader& operator=(const ConsoleReader&) = delete;
    virtual ~ConsoleReader() = default;

    // The next bytes, at most 64 KiB; empty when `follow` is off and the end is reached, or when
    // the VM is gone. A slow reader skips: the log on disk is bounded.
    virtual Awaitable<Result<std::string>> next() = 0;
};

}  // namespace noid::vm
