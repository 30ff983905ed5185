// SPDX-License-Identifier: Apache-2.0
#pragma once

// GPUs as a program finds them, for the folders above: they include nothing of kernels/.
#include "kernels/base/gpu_facts.hpp"
