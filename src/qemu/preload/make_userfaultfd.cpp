// Of the library that is loaded into QEMU (preload.hpp). A userfaultfd serves the memory of the process that
// made it, so QEMU has to; what is done with it is up to who takes it from there (guest_memory.hpp).
#include <fcntl.h>
#include <unistd.h>

#include "vmm/userfaultfd.hpp"

namespace {

[[gnu::constructor]] void leave_userfaultfd() {
    const int made = noid::vmm::make_userfaultfd();
    if (made < 0 || made == noid::vmm::userfaultfd_number) return;
    ::dup3(made, noid::vmm::userfaultfd_number, O_CLOEXEC);
    ::close(made);
}

}  // namespace
