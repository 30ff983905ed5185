// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "experiments/record/hdf5.hpp"
#include "experiments/record/results_file.hpp"

namespace chunkstate {

/// The columns of the groups that hold one struct per row, once for writing and for reading:
/// `visit(label, field)` for each, the field a pointer to a text, integer or real member.

template <class Visit>
void visit_rank_columns(const Visit& visit) {
  using Rank = RankProvenance;
  visit(h5::Label{"rank", "1", "rank"}, &Rank::rank);
  visit(h5::Label{"ranks", "1", "ranks of its job"}, &Rank::ranks);
  visit(h5::Label{"host", "1", "host name"}, &Rank::host);
  visit(h5::Label{"local_rank", "1", "rank on its host"}, &Rank::local_rank);
  visit(h5::Label{"gpu_name", "1", "GPU"}, &Rank::gpu_name);
  visit(h5::Label{"gpu_uuid", "1", "GPU's UUID"}, &Rank::gpu_uuid);
  visit(h5::Label{"pci_bus_id", "1", "GPU's PCI address"}, &Rank::pci_bus_id);
  visit(h5::Label{"numa", "1", "NUMA nodes it may run on"}, &Rank::numa);
  visit(h5::Label{"cpus", "1", "logical processors it may run on"}, &Rank::cpus);
  visit(h5::Label{"driver", "1", "GPU driver's version"}, &Rank::driver);
  visit(h5::Label{"backend", "1", "backend"}, &Rank::backend);
  visit(h5::Label{"threads", "1", "threads"}, &Rank::threads);
  visit(h5::Label{"cpu_model", "1", "processor"}, &Rank::cpu_model);
  visit(h5::Label{"cores", "1", "physical cores of the host"}, &Rank::cores);
  visit(h5::Label{"processors", "1", "logical processors of the host"}, &Rank::processors);
  visit(h5::Label{"governor", "1", "frequency governor"}, &Rank::governor);
  visit(h5::Label{"memory_bytes", "byte", "memory of the host"}, &Rank::memory_bytes);
  visit(h5::Label{"os", "1", "operating system"}, &Rank::os);
  visit(h5::Label{"kernel", "1", "kernel"}, &Rank::kernel);
  visit(h5::Label{"pid", "1", "process id"}, &Rank::pid);
  visit(h5::Label{"start_utc", "1", "start, UTC"}, &Rank::start_utc);
}

template <class Visit>
void visit_model_columns(const Visit& visit) {
  using Facts = ModelFacts;
  visit(h5::Label{"name", "1", "folder or synthetic name"}, &Facts::name);
  visit(h5::Label{"architecture", "1", "family"}, &Facts::architecture);
  visit(h5::Label{"dtype", "1", "type of activations"}, &Facts::dtype);
  visit(h5::Label{"digest", "1", "digest of weights and tokenizer"}, &Facts::digest);
  visit(h5::Label{"parameters", "1", "parameters"}, &Facts::parameters);
  visit(h5::Label{"weight_bytes", "byte", "weights"}, &Facts::weight_bytes);
  visit(h5::Label{"state_bytes", "byte", "recurrent state of one sequence"}, &Facts::state_bytes);
  visit(h5::Label{"kv_bytes_per_token", "byte", "KV cache per token of one sequence"},
        &Facts::kv_bytes_per_token);
  visit(h5::Label{"flops_per_token", "1", "operations of one decoded token without context"},
        &Facts::flops_per_token);
  visit(h5::Label{"bytes_per_token", "byte", "least bytes moved for one decoded token, batch 1"},
        &Facts::bytes_per_token);
}

template <class Visit>
void visit_prompt_columns(const Visit& visit) {
  visit(h5::Label{"id", "1", "the prompt's id"}, &Prompt::id);
  visit(h5::Label{"text", "1", "the prompt"}, &Prompt::text);
  visit(h5::Label{"answer", "1", "the expected answer"}, &Prompt::answer);
  visit(h5::Label{"token_len", "1", "tokens, as stated by the prompt file"}, &Prompt::token_len);
  visit(h5::Label{"num_chunks", "1", "chunks, as stated by the prompt file"}, &Prompt::num_chunks);
}

template <class Visit>
void visit_shard_columns(const Visit& visit) {
  visit(h5::Label{"name", "1", "file or directory merged"}, &ShardFacts::name);
  visit(h5::Label{"items", "1", "items with an outcome in it"}, &ShardFacts::items);
  visit(h5::Label{"duplicates", "1", "of those, dropped as equal to an earlier shard's"},
        &ShardFacts::duplicates);
}

/// The columns of /requests that are a number of the record itself, not derived from others. Those
/// of the second list are written as metrics, or beside them.
template <class Visit>
void visit_request_integers(const Visit& visit) {
  visit(h5::Label{"point", "1", "index into /sweep"}, &RequestRecord::point);
  visit(h5::Label{"prompt", "1", "index into /prompts"}, &RequestRecord::prompt);
  visit(h5::Label{"repeat", "1", "repeat"}, &RequestRecord::repeat);
  visit(h5::Label{"batch", "1", "equal sequences generated together"}, &RequestRecord::batch);
  visit(h5::Label{"rank", "1", "rank that ran it"}, &RequestRecord::rank);
  visit(h5::Label{"process", "1", "index into /provenance/ranks"}, &RequestRecord::process);
  visit(h5::Label{"throttled", "1",
                  "what slowed the GPU, a sum of: 1 power cap, 2 hardware slowdown, 4 software "
                  "thermal, 8 hardware thermal, 16 power brake; 0 nothing, -1 not known"},
        &RequestRecord::throttled);
}

template <class Visit>
void visit_request_reals(const Visit& visit) {
  visit("t_start", &RequestRecord::t_start);
  visit("ttft", &RequestRecord::ttft);
  visit("e2e", &RequestRecord::e2e);
  visit("peak_memory_bytes", &RequestRecord::peak_memory_bytes);
  visit("bytes_moved", &RequestRecord::bytes_moved);
  visit("flops", &RequestRecord::flops);
  visit("cpu_percent", &RequestRecord::cpu_percent);
  visit("gpu_percent", &RequestRecord::gpu_percent);
  visit("io_wait", &RequestRecord::io_wait);
  visit("energy", &RequestRecord::energy);
  visit("sm_clock", &RequestRecord::sm_clock);
  visit("launches", &RequestRecord::launches);
  visit("batch_mean", &RequestRecord::batch_mean);
  visit("warmup_seconds", &RequestRecord::warmup_seconds);
}

}  // namespace chunkstate
