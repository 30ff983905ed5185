// SPDX-License-Identifier: Apache-2.0
#include "experiments/run/engine_pool.hpp"

#include "core/checkpoint/shared_checkpoint.hpp"
#include "core/engine_names.hpp"
#include "core/trace.hpp"

namespace chunkstate {

EnginePool::FileKey EnginePool::file_key(const PointSettings& settings) {
  const bool synthetic =
      settings.model_weights == "synthetic" || settings.model_path.starts_with("synthetic:");
  // A checkpoint serves every dtype; synthetic weights are drawn in the type they are stored in.
  return {settings.model_path, settings.model_weights, synthetic ? settings.model_dtype : "",
          synthetic ? settings.seed : 0};
}

const OpenModel& EnginePool::files(const PointSettings& settings) {
  const FileKey key = file_key(settings);
  const auto found = files_.find(key);
  if (found != files_.end()) return found->second;
  const TraceRegion region("open model");
  ModelSource source;
  source.path = settings.model_path;
  source.synthetic_weights = settings.model_weights == "synthetic";
  source.seed = settings.seed;
  source.dtype = dtype_from_name(settings.model_dtype);
  return files_.emplace(key, open_model(source)).first->second;
}

void EnginePool::share_weights(const PointSettings& settings, Communicator& world) {
  const WeightKey key{file_key(settings), settings.model_dtype};
  if (world.local_size() == 1 || shared_.count(key) > 0 ||
      backend_from_name(settings.backend) == Backend::cuda) {
    return;
  }
  const TraceRegion region("share weights");
  const OpenModel& opened = files(settings);
  const DType dtype = dtype_from_name(settings.model_dtype);
  if (!needs_copies(*opened.checkpoint, opened.config, dtype)) return;
  shared_[key] = share_checkpoint(opened.checkpoint, opened.config, dtype, world);
  if (opened.checkpoint->made_in_memory()) files_.at(key.first).checkpoint = shared_[key];
}

std::size_t EnginePool::working_bytes() const {
  std::size_t total = 0;
  for (const auto& [key, model] : models_) total += model ? model->working_bytes() : 0;
  return total;
}

std::size_t EnginePool::held_bytes() const {
  std::size_t total = working_bytes();
  for (const auto& [key, model] : models_) total += model ? model->weights().owned_bytes() : 0;
  return total;
}

Model& EnginePool::model(const PointSettings& settings) {
  const ModelKey key{
      file_key(settings), settings.model_dtype + " " + settings.state_dtype, settings.backend,
      settings.model_layers, settings.mode, settings.autotune, settings.fusion,
      // So that a reference can be another model. A GPU's weights are not worth a
      // copy: there, one model changes its method.
      backend_from_name(settings.backend) == Backend::cuda ? "" : settings.attention};
  std::unique_ptr<Model>& model = models_[key];
  if (!model) {
    const TraceRegion region("load model");
    const OpenModel& opened = files(settings);
    ModelOptions options;
    options.backend = backend_from_name(settings.backend);
    options.threads = threads_;
    options.dtype = dtype_from_name(settings.model_dtype);
    options.residual_dtype = options.dtype;
    options.state_dtype = dtype_from_name(settings.state_dtype);
    options.layers = settings.model_layers;
    options.tensor_group = tensor_groups_.of(options.backend);
    options.execution = execution_options(settings.mode, settings.autotune, settings.fusion,
                                          options.backend, options.dtype);
    const auto shared = shared_.find({std::get<0>(key), settings.model_dtype});
    model = std::make_unique<Model>(
        opened.config, shared != shared_.end() ? shared->second : opened.checkpoint, options);
  }
  model->set_attention(attention_choice(settings.attention, settings.attention_block));
  return *model;
}

}  // namespace chunkstate
