#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/fd.hpp"

namespace noid::net {

// While it lives, the calling thread is in another network namespace; sockets that it opens stay there.
// Destroyed on the same thread. If the way back fails the program ends: to go on in the wrong namespace
// would give the host's network a guest's rules.
class InNamespace {
  public:
    // Enters the namespace held by `file` (/run/netns/NAME).
    [[nodiscard]] static Result<InNamespace> enter(const std::filesystem::path& file);
    // Enters a new one and keeps it at `file`, which must not exist.
    [[nodiscard]] static Result<InNamespace> create(const std::filesystem::path& file);

    InNamespace(InNamespace&& other) noexcept = default;
    InNamespace& operator=(InNamespace&&) = delete;
    ~InNamespace();

    // The namespace in which the thread was before.
    [[nodiscard]] const Fd& home() const noexcept { return home_; }

  private:
    explicit InNamespace(Fd home) noexcept : home_{std::move(home)} {}

    Fd home_;
};

// Lets the namespace go: it ends when no process and no socket is in it any more. Gone already is fine.
[[nodiscard]] Result<void> remove_namespace(const std::filesystem::path& file);
// Names in `directory`; none if it does not exist.
[[nodiscard]] std::vector<std::string> list_namespaces(const std::filesystem::path& directory);

// Writes one of the calling thread's namespace's settings: "ipv4/ip_forward", "1". Read likewise.
[[nodiscard]] Result<void> write_sysctl(const std::string& name, const std::string& value);
[[nodiscard]] Result<std::string> read_sysctl(const std::string& name);

}  // namespace noid::net
