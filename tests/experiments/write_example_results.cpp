// SPDX-License-Identifier: Apache-2.0
// write_example_results FULL.h5 EMPTY.h5: input of readers_test.py. FULL has every kind of column,
// EMPTY is the file of a run that was stopped before its first result.
#include <exception>
#include <iostream>

#include "tests/experiments/example_results.hpp"

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: write_example_results FULL.h5 EMPTY.h5\n";
    return 64;
  }
  try {
    const chunkstate::ExampleExperiment experiment;
    chunkstate::ResultsContent content = chunkstate::example_content(experiment);
    chunkstate::write_results(argv[1], content);
    content.requests.clear();
    content.processes.clear();
    content.run.argv.clear();
    chunkstate::write_results(argv[2], content);
  } catch (const std::exception& error) {
    std::cerr << "write_example_results: " << error.what() << '\n';
    return 1;
  }
  return 0;
}
