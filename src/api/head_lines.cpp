#include "api/head_lines.hpp"

namespace noid::api {

void HeadLines::add(std::string_view name, std::string_view value) {
    text_.append(name).append(": ");
    for (const char c : value) text_.push_back(c == '\r' || c == '\n' || c == '\0' ? ' ' : c);
    text_.append("\r\n");
}

}  // namespace noid::api
