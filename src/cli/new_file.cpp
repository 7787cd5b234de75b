#include "cli/new_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "base/file.hpp"
#include "base/random.hpp"

namespace noid::cli {

namespace fs = std::filesystem;

NewFile::~NewFile() {
    if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

Result<int> NewFile::create(mode_t mode) {
    std::error_code failure;
    // What a symbolic link points to is replaced, not the link.
    if (fs::is_symlink(path_, failure)) path_ = fs::weakly_canonical(path_, failure);
    const auto status = fs::status(path_, failure);
    const bool replaced = !fs::exists(status) || fs::is_regular_file(status);
    const auto name = replaced ? path_.native() + ".noid-" + random_hex(8) : path_.native();
    auto file = open_file(name, replaced ? O_WRONLY | O_CREAT | O_EXCL : O_WRONLY, mode);
    if (!file) return fail(file.error());
    if (replaced) temporary_ = name;
    file_ = std::move(*file);
    return file_.get();
}

Result<void> NewFile::publish() {
    if (temporary_.empty()) return {};
    if (::fsync(file_.get()) != 0 || ::rename(temporary_.c_str(), path_.c_str()) != 0)
        return fail_errno(errno, fmt::format("cannot write '{}'", path_.native()));
    temporary_.clear();
    return {};
}

}  // namespace noid::cli
