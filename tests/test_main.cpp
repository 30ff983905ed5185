// SPDX-License-Identifier: Apache-2.0
#define CATCH_CONFIG_RUNNER
#include "tests/catch.hpp"

// The MPI tests have a main of their own; all others share this one.
int main(int argc, char** argv) { return Catch::Session().run(argc, argv); }
