#pragma once

#include <cstddef>
#include <functional>

namespace noid::vm {

// Runs `work` in a process of its own that is killed (SIGKILL) as it is about to make its n-th system call
// that changes a file or directory; counted from 0. Whether it was: false when it ended before. Whoever calls
// has one thread.
bool killed_at_change(std::size_t n, const std::function<void()>& work);

}  // namespace noid::vm
