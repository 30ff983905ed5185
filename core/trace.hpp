// SPDX-License-Identifier: Apache-2.0
#pragma once

// Regions of a timeline, for the folders above: they include nothing of kernels/.
#include "kernels/base/trace.hpp"
