#pragma once

#include <string>
#include <vector>

namespace noid::cli {

// Rows of cells as text with ASCII borders, a rule between every two rows:
//     +------+---------+
//     | name | state   |
//     +------+---------+
//     | dev  | running |
//     +------+---------+
// Control characters in cells are made visible. Rows shorter than the header are filled up.
class Table {
  public:
    using Row = std::vector<std::string>;
    explicit Table(Row header);
    void add(Row row);
    // With a line break at the end.
    [[nodiscard]] std::string text() const;

  private:
    std::vector<Row> rows_;
};

}  // namespace noid::cli
