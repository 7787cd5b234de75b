#include "cli/table.hpp"

#include <algorithm>
#include <utility>

#include "cli/failure.hpp"

namespace noid::cli {
namespace {

// Columns that a terminal uses, for text without wide characters.
std::size_t width(const std::string& text) {
    return static_cast<std::size_t>(
        std::ranges::count_if(text, [](unsigned char c) { return (c & 0xc0) != 0x80; }));
}

}  // namespace

Table::Table(Row header) {
    add(std::move(header));
}

void Table::add(Row row) {
    for (auto& cell : row) cell = printable(cell);
    if (!rows_.empty()) row.resize(rows_.front().size());
    rows_.push_back(std::move(row));
}

std::string Table::text() const {
    std::vector<std::size_t> widths(rows_.front().size());
    for (const auto& row : rows_) {
        for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width(row[i]));
    }
    std::string rule = "+";
    for (const auto size : widths) rule += std::string(size + 2, '-') + "+";
    rule += "\n";

    std::string out = rule;
    for (const auto& row : rows_) {
        out += "|";
        for (std::size_t i = 0; i < row.size(); ++i)
            out += " " + row[i] + std::string(widths[i] - width(row[i]), ' ') + " |";
        out += "\n" + rule;
    }
    return out;
}

}  // namespace noid::cli
