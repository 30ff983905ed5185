// SPDX-License-Identifier: Apache-2.0
#pragma once

#ifdef CHUNKSTATE_CATCH2_V2
#include <catch2/catch.hpp>
#else
#include <catch2/catch_all.hpp>
using Catch::Approx;
#endif
