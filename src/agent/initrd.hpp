#pragma once

#include <vector>

#include "agent/kernel_modules.hpp"
#include "base/error.hpp"
#include "base/fd.hpp"

namespace noid::agent {

// The initrd's files, which stay within reach after the root file system has been put over them.
class Initrd {
  public:
    // Called while the initrd is still the root. `corrupt` for a module order that is none.
    [[nodiscard]] static Result<Initrd> open();

    // Loads the modules of one stage; see load_modules().
    void load(ModuleStage stage) const;

    // Deletes all files, which gives their memory back. The agent's own program stays as long as
    // a process runs it.
    void remove() const;

  private:
    Initrd(Fd root, Fd modules, std::vector<KernelModule> order)
        : root_{std::move(root)}, modules_{std::move(modules)}, order_{std::move(order)} {}

    Fd root_;
    Fd modules_;
    std::vector<KernelModule> order_;
};

}  // namespace noid::agent
