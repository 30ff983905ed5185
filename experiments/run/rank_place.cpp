// SPDX-License-Identifier: Apache-2.0
#include "experiments/run/rank_place.hpp"

#include "core/engine_names.hpp"
#include "experiments/doctor/host_facts.hpp"
#include "experiments/run/request_runner.hpp"

namespace chunkstate {

RankProvenance place_in_run(const Communicator& world, const ExperimentSpec& spec, int threads,
                            RunProvenance& run) {
  RankProvenance place = collect_rank_provenance();
  place.rank = world.rank();
  place.ranks = world.size();
  place.local_rank = world.local_rank();
  place.threads = threads;
  place.backend = name_of(backend_from_name(spec.points[0].settings.backend));
  const Telemetry telemetry(telemetry_sources(spec));
  run.build.emplace_back("telemetry", telemetry.description());
  if (const GpuMeter* gpu = telemetry.gpu()) {
    place.pci_bus_id = gpu_bus_id();
    place.gpu_numa = pci_place(place.pci_bus_id).numa;
    place.gpu_name = gpu->name();
    place.gpu_uuid = gpu->uuid();
    place.driver = gpu->driver();
  }
  return place;
}

}  // namespace chunkstate
