#include "base/temporary_directory.hpp"

#include <cerrno>
#include <cstdlib>
#include <string>
#include <system_error>

namespace noid {

Result<TemporaryDirectory> TemporaryDirectory::create(const std::filesystem::path& parent,
                                                      std::string_view prefix) {
    std::string path = (parent / (std::string{prefix} + "XXXXXX")).string();
    if (::mkdtemp(path.data()) == nullptr)
        return fail_errno(errno, "cannot make a temporary directory in " + parent.string());
    return TemporaryDirectory{path};
}

TemporaryDirectory::~TemporaryDirectory() {
    std::error_code ignored;  // a leftover in a temporary place harms nobody
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
}

}  // namespace noid
