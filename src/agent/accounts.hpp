#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"

namespace noid::agent {

// Who a session runs as. Read from the image's own /etc/passwd and /etc/group: a static program has
// no name service switch, and an image may lack both files.
struct Account {
    uid_t uid = 0;
    gid_t gid = 0;
    std::vector<gid_t> groups;  // gid first, then the supplementary ones
    std::string name = "root";
    std::string home = "/root";
    std::string shell = "/bin/sh";
};

// `user` is a name, "uid" or "uid:gid"; empty means root. not_found for a name that the image does
// not have. Numbers need no entry.
[[nodiscard]] Result<Account> find_account(const std::string& user);
// The same with the contents of the two files.
[[nodiscard]] Result<Account> find_account(const std::string& user, std::string_view passwd,
                                           std::string_view group);

}  // namespace noid::agent
