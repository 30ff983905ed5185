// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace chunkstate {

/// Records the GPU's kernels, copies and fills as spans (trace::add_device_span) on the clock of
/// trace_clock(). Empty, or why that cannot be done here: no CUDA in this build, no CUPTI library,
/// another profiler has the device.
std::string start_device_trace();
/// Waits for what was launched and hands over what is still in buffers.
void stop_device_trace();

/// A kernel's mangled name, readable and without its parameters and template arguments:
/// "chunkstate::cuda::scan_kernel". What is no mangled name comes back as it is.
std::string short_kernel_name(const char* mangled);

/// The PCI address of the current GPU as other libraries know it, "0000:3b:00.0"; empty without
/// one.
std::string device_bus_id();

}  // namespace chunkstate
