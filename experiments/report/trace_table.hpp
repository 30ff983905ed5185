// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

#include "experiments/report/tables.hpp"

namespace chunkstate {

/// Where the requests of a timeline (`profile.trace`) spend their time, per variant: regions of
/// host code and kernels and copies of the GPU, the longest first, with calls, total and mean time
/// and share of the requests' time. Regions enclose each other, and a GPU works beside the host, so
/// shares do not add up to one. Warm-ups are not counted. Throws InputError for a file that is no
/// timeline of ours.
ReportTable trace_table(const std::filesystem::path& file);

/// The table as HTML with its heading if there is a trace.json in the folder of this results file;
/// else empty.
std::string trace_section(const std::filesystem::path& results_file);

}  // namespace chunkstate
