#pragma once

#include <string>
#include <string_view>

namespace noid::api {

struct HeaderField {
    std::string_view name;
    std::string_view value;
};

// The lines of an answer's head but those that frame it. What would end a line becomes a space.
class HeadLines {
  public:
    void add(std::string_view name, std::string_view value);
    [[nodiscard]] const std::string& text() const noexcept { return text_; }

  private:
    std::string text_;
};

}  // namespace noid::api
