// SPDX-License-Identifier: Apache-2.0
// A results file -> what `verify` says of it, and what `merge` takes from it.
//
// HDF5 1.10 itself crashes on damaged files, so the product reads them in a child process with
// limits, and it is the product that is judged here: this process survives and says InputError or a
// report; the child stays within 512 MB; no memory error in the child is one of our own code, only
// HDF5's. Coverage counters are shared with the child, else libFuzzer would see nothing.
#include <dlfcn.h>
#include <execinfo.h>
#include <pthread.h>
#include <sanitizer/asan_interface.h>
#include <sys/resource.h>

#include <csignal>
#include <cstring>
#include <iterator>
#include <random>
#include <string>

#include "core/errors.hpp"
#include "experiments/record/merge.hpp"
#include "tests/fuzz/target.hpp"
#include "tests/temporary_folder.hpp"

using namespace chunkstate;

extern "C" {
// Names of functions in the child's reports are not needed and take long.
const char* __asan_default_options() { return "symbolize=0:quarantine_size_mb=16"; }
void __sanitizer_set_death_callback(void (*callback)());
std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);
}

namespace {

constexpr long most_kilobytes = 512 * 1024;
constexpr std::size_t report_bytes = 16384;
char* report_of_child = nullptr;  // shared: the sanitizer's words, empty if it has none

[[maybe_unused]] void keep_report(const char* text) {
  std::strncpy(report_of_child, text, report_bytes - 1);
}
[[maybe_unused]] void keep_death() {
  if (*report_of_child == '\0') keep_report("undefined behaviour (run the input in gdb)");
}

/// The child's processor time is over: HDF5 loops on some damaged files, our own code must not.
void judge_loop(int) {
  void* frames[64];
  const int count = ::backtrace(frames, 64);
  for (int i = 0; i < count; ++i) {
    Dl_info where{};
    if (::dladdr(frames[i], &where) != 0 && where.dli_fname != nullptr &&
        std::strstr(where.dli_fname, "libhdf5") != nullptr) {
      std::signal(SIGXCPU, SIG_DFL);
      std::raise(SIGXCPU);  // ends the child when this handler returns
      return;
    }
  }
  std::abort();
}

/// libFuzzer would take the child's end for its own.
void in_child() {
  std::signal(SIGXCPU, judge_loop);
#if __has_feature(address_sanitizer)
  __asan_set_error_report_callback(keep_report);
  __sanitizer_set_death_callback(keep_death);
#endif
}

/// Whether each stack of the report (access, allocation, release) is HDF5's: one of its three
/// innermost frames, because the innermost is the sanitizer's own memcpy or free. Of a copy whose
/// ranges overlap only the access: whose memory a wild address falls into is chance.
bool blames_hdf5(std::string_view report) {
  if (report.find("memcpy-param-overlap") != std::string_view::npos) {
    report = report.substr(0, report.find("\n\n", report.find("#0 ")));
  }
  bool any = false;
  for (std::size_t at = report.find("#0 "); at != std::string_view::npos;
       at = report.find("#0 ", at + 1)) {
    const std::size_t end = std::min(report.find("#3 ", at), report.find("\n\n", at));
    if (report.substr(at, end - at).find("libhdf5") == std::string_view::npos) return false;
    any = true;
  }
  return any;
}

void check_child() {
  if (*report_of_child != '\0' && !blames_hdf5(report_of_child)) {
    std::fprintf(stderr, "in the child: %s\n", report_of_child);
    std::abort();
  }
  *report_of_child = '\0';
  for (const auto whose : {RUSAGE_CHILDREN, RUSAGE_SELF}) {
    rusage used{};
    ::getrusage(whose, &used);
    expect(used.ru_maxrss <= most_kilobytes, "512 MB at most");
  }
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  report_of_child = static_cast<char*>(shared_memory(report_bytes));
  share_coverage_counters();
  void* frame = nullptr;
  ::backtrace(&frame, 1);  // loads what it needs: a handler must not
  ::pthread_atfork(nullptr, nullptr, in_child);
  return 0;
}

/// Mostly changes a few bytes in place: a file of addresses rarely survives that its bytes move.
extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t max_size, unsigned seed) {
  std::minstd_rand random(seed);
  if (size < 16 || random() % 8 == 0) return LLVMFuzzerMutate(data, size, max_size);
  constexpr std::uint64_t values[] = {0,          1,          0x7F,       0xFF, 0xFFFF,
                                      0x7FFFFFFF, 0xFFFFFFFF, 1ULL << 60, ~0ULL};
  const std::size_t changes = 1 + random() % 4;
  for (std::size_t i = 0; i < changes; ++i) {
    const std::size_t bytes = std::size_t{1} << random() % 4;
    const std::size_t at = random() % (size - bytes) / bytes * bytes;
    switch (random() % 4) {
      case 0:
        data[at] ^= static_cast<std::uint8_t>(1U << random() % 8);
        break;
      case 1:
        std::memcpy(data + at, &values[random() % std::size(values)], bytes);
        break;
      case 2:  // an address or a size from elsewhere in the file
        std::memmove(data + at, data + random() % (size - bytes) / bytes * bytes, bytes);
        break;
      default:
        LLVMFuzzerMutate(data + at, bytes, bytes);
    }
  }
  return size;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const TemporaryFolder folder;
  const std::string path = folder.write("results.h5", std::string(text_of(data, size)));
  try {
    const VerifyReport report = verify_results(path);
    if (report.sound())
      expect(report.digest == report.stored_digest, "a sound file has its digest");
    ResultsMerge merge;
    merge.add(read_merge_input(path));
    expect(merge.missing() >= 0, "a file has at most the items of its experiment");
  } catch (const OtherExperimentError&) {
  } catch (const InputError& error) {
    const std::string_view text = error.what();
    // glibc's heap checks are not there under the sanitizer, so only our own code aborts.
    expect(text.find("signal 6") == std::string_view::npos, "no abort");
    expect(text.find("(time limit") == std::string_view::npos, "no hang");
  }
  check_child();
  return 0;
}
