// SPDX-License-Identifier: Apache-2.0
#include "experiments/run/exit_code.hpp"

#include <fmt/format.h>

#include <cstdio>
#include <new>

#include "core/errors.hpp"
#include "experiments/record/directory_lock.hpp"
#include "experiments/record/file_io.hpp"
#include "experiments/record/journal.hpp"

namespace chunkstate {

Ending ending_of(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const AgreedError& e) {
    return {e.code(), e.what()};
  } catch (const UsageError& e) {
    return {exit_usage, e.what()};
  } catch (const InputError& e) {
    return {exit_bad_input, e.what()};
  } catch (const OtherExperimentError& e) {
    return {exit_other_experiment, e.what()};
  } catch (const LockedError& e) {
    return {exit_stopped_early, e.what()};
  } catch (const FileError& e) {
    return {e.disk_full() ? exit_stopped_early : exit_error, e.what()};
  } catch (const std::bad_alloc&) {
    return {exit_error, "out of memory"};
  } catch (const std::exception& e) {
    return {exit_error, e.what()};
  }
}

int report_failure(int rank) {
  const Ending ending = ending_of(std::current_exception());
  fmt::print(stderr, "chunkstate: rank {}: {}\n", rank, ending.message);
  std::fflush(stderr);
  return ending.code;
}

}  // namespace chunkstate
