// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdexcept>
#include <string>

namespace chunkstate {

/// An input file cannot be used: exit code 65. The message says file, place, found, expected:
/// `model.safetensors: tensor 'model.norm.weight': data_offsets [8, 4]: begin is after end`
class InputError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The command line or the experiment file is wrong: exit code 64.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace chunkstate
