#pragma once

#include <sys/types.h>

#include <cstddef>

#include "base/error.hpp"
#include "base/fd.hpp"
#include "launcher/user_pool.hpp"
#include "vmm/warden.hpp"

namespace noid::privileged {

// Whose things are in a directory that VMMs have worked in.
struct Owners {
    launcher::UserRange vmms;
    uid_t server = 0;
};

// Removes from an open directory what belongs to users of VMMs: files of any kind, and directories with all
// that is in them, however deep they are nested. At most `most` entries are touched, so that it takes
// milliseconds: `a_part` when that was not all, and the next call goes on from there.
//
// No link is followed and no mount entered, and nothing is removed but by its name in a directory of a VMM's
// user or of the server's: so whatever anybody changes meanwhile, nothing goes that one of the two could not
// have removed without root. forbidden for what lies in there and is of neither, too_large where more than
// `most` files of the server's are in the way. Blocking.
[[nodiscard]] Result<vmm::Reclaimed> reclaim(const Fd& directory, const Owners& owners, std::size_t most);

}  // namespace noid::privileged
