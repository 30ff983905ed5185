// SPDX-License-Identifier: Apache-2.0
// write_example_page PAGE.html: input of browser_test.py, with every kind of figure and table.
#include <exception>
#include <fstream>
#include <iostream>

#include "experiments/report/page.hpp"
#include "tests/experiments/example_evaluations.hpp"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: write_example_page PAGE.html\n";
    return 64;
  }
  try {
    std::ofstream page(argv[1]);
    page << chunkstate::report_page(chunkstate::evaluated_results(), "example.h5", "digest");
    page.close();
    return page.good() ? 0 : 1;
  } catch (const std::exception& error) {
    std::cerr << "write_example_page: " << error.what() << '\n';
    return 1;
  }
}
