#pragma once

namespace noid {

// Tells whoever started this program that it serves: systemd, when it asks to be told (Type=notify), and the
// reader of `ready_fd`, which gets the line "ready" and is closed. Negative: there is no such reader.
void say_ready(int ready_fd);

}  // namespace noid
