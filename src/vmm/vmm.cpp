#include "vmm/vmm.hpp"

namespace noid::vmm {

std::string_view name_of(Kind kind) noexcept {
    switch (kind) {
        case Kind::qemu:
            return "qemu";
        case Kind::firecracker:
            return "firecracker";
    }
    return "unknown";
}

}  // namespace noid::vmm
