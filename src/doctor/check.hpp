#pragma once

#include <string>
#include <vector>

namespace noid::doctor {

enum class Verdict {
    ok,
    warning,  // works, with less than it could
    failure,  // something that Noid is asked to do cannot work
};

// What one check found, and what a person does about it.
struct Finding {
    std::string subject;  // "kernel", "free disk"
    Verdict verdict = Verdict::ok;
    std::string found;
    std::string advice;  // empty when ok
};

}  // namespace noid::doctor
