// SPDX-License-Identifier: Apache-2.0
#include "cmd/table.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>

namespace pinfs::cmd {
namespace {

using Row = std::vector<std::string>;

void print_tabs(const Row& row) {
    for (std::size_t i = 0; i < row.size(); ++i) std::cout << (i == 0 ? "" : "\t") << row[i];
    std::cout << '\n';
}

void print_aligned(const Row& row, const std::vector<std::size_t>& widths,
                   const std::vector<std::size_t>& right) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
        const std::string fill(widths[i] - row[i].size(), ' ');
        const bool to_the_right = std::ranges::find(right, i) != right.end();
        if (i != 0) line += "  ";
        line += to_the_right ? fill + row[i] : row[i] + fill;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    std::cout << line << '\n';
}

}  // namespace

void print_table(const Row& head, const std::vector<Row>& rows,
                 const std::vector<std::size_t>& right) {
    if (isatty(STDOUT_FILENO) == 0) {
        print_tabs(head);
        for (const Row& row : rows) print_tabs(row);
        return;
    }
    std::vector<std::size_t> widths;
    for (const std::string& word : head) widths.push_back(word.size());
    for (const Row& row : rows)
        for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
    const char* const no_color = std::getenv("NO_COLOR");
    const bool bold = no_color == nullptr || *no_color == '\0';
    if (bold) std::cout << "\033[1m";
    print_aligned(head, widths, right);
    if (bold) std::cout << "\033[0m";
    for (const Row& row : rows) print_aligned(row, widths, right);
}

}  // namespace pinfs::cmd
