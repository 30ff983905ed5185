// SPDX-License-Identifier: Apache-2.0
#pragma once

// Operators launched, for the folders above: they include nothing of kernels/.
#include "kernels/base/launches.hpp"
