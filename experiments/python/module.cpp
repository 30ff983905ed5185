// SPDX-License-Identifier: Apache-2.0
// The compiled half of the Python package `chunkstate`: one class around the engine.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/filesystem.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/engine_names.hpp"
#include "core/errors.hpp"
#include "core/execution_options.hpp"
#include "core/generate.hpp"
#include "core/model.hpp"
#include "core/open_model.hpp"

namespace nb = nanobind;

namespace chunkstate {
namespace {

using Ids = std::vector<std::int32_t>;

/// `values` as a NumPy array that owns them.
template <class... Extents>
auto array_of(std::vector<float> values, Extents... extents) {
  auto owned = std::make_unique<std::vector<float>>(std::move(values));
  float* const data = owned->data();
  nb::capsule owner(owned.get(),
                    [](void* memory) noexcept { delete static_cast<std::vector<float>*>(memory); });
  static_cast<void>(owned.release());
  return nb::ndarray<nb::numpy, float, nb::ndim<sizeof...(Extents)>>(
      data, {static_cast<std::size_t>(extents)...}, owner);
}

/// What the keyword arguments of Model's constructor say.
struct Options {
  std::string dtype, state_dtype, variant, backend;
  std::int64_t chunk_size = 0, lookback = 1, layers = 0;
  int threads = 0;
  std::uint64_t seed = 42;

  ModelOptions model_options() const {
    ModelOptions result;
    result.backend = backend_from_name(backend);
    result.threads = resolve_threads(threads);
    result.dtype = dtype_from_name(dtype);
    result.residual_dtype = result.dtype;
    result.state_dtype = dtype_from_name(state_dtype);
    result.layers = layers;
    result.execution = execution_options("auto", "off", "auto", result.backend, result.dtype);
    return result;
  }
};

class PythonModel {
 public:
  PythonModel(const std::string& path, const Options& options)
      : files_(open_model({path, false, options.seed, dtype_from_name(options.dtype)})),
        model_(files_.config, files_.checkpoint, options.model_options()),
        ssd_(ssd_settings(options.variant, options.chunk_size, options.lookback, files_.config)),
        seed_(options.seed) {}

  /// Ids of a text, or of any iterable of integers.
  Ids ids_of(const nb::object& input) const {
    if (nb::isinstance<nb::str>(input)) return encode(nb::cast<std::string>(input));
    Ids ids;
    for (const nb::handle item : nb::iter(input)) {
      const nb::object index = nb::steal(PyNumber_Index(item.ptr()));
      if (!index.is_valid()) throw nb::python_error();
      int overflow = 0;
      const long long id = PyLong_AsLongLongAndOverflow(index.ptr(), &overflow);
      // As the engine says it of ids that fit.
      if (overflow != 0 || id < std::numeric_limits<std::int32_t>::min() ||
          id > std::numeric_limits<std::int32_t>::max()) {
        throw UsageError("sequence 0, token " + std::to_string(ids.size()) + ": id " +
                         nb::cast<std::string>(nb::str(index)) + ", expected 0 to " +
                         std::to_string(files_.config.vocab_size - 1));
      }
      ids.push_back(static_cast<std::int32_t>(id));
    }
    return ids;
  }

  Ids encode(const std::string& text) const { return files_.encode_prompt(text, -1); }
  std::string decode(const nb::object& input) const { return files_.decode(ids_of(input)); }

  auto logits(const nb::object& input) {
    const Ids ids = ids_of(input);
    if (ids.empty()) throw UsageError("a sequence has no tokens");
    std::vector<float> all;
    {
      const nb::gil_scoped_release others_may_run;
      SequenceState state = model_.make_state(ssd_, 1, static_cast<std::int64_t>(ids.size()));
      model_.prefill(ids, state, 0, 0, LogitsRows::all,
                     [&](std::int64_t, std::int64_t, View<const float, 2> rows) {
                       all.insert(all.end(), rows.data,
                                  rows.data + rows.extent[0] * rows.extent[1]);
                     });
    }
    return array_of(std::move(all), ids.size(), files_.config.vocab_size);
  }

  auto nll(const nb::object& input) {
    const Ids ids = ids_of(input);
    std::vector<float> values;
    {
      const nb::gil_scoped_release others_may_run;
      values = score(model_, ssd_, ids);
    }
    const std::size_t count = values.size();
    return array_of(std::move(values), count);
  }

  nb::object generate_from(const nb::object& input, std::int64_t max_new_tokens, double temperature,
                           std::int32_t top_k, double top_p, bool stop_at_eos) {
    if (max_new_tokens < 1) {
      throw UsageError("max_new_tokens: found " + std::to_string(max_new_tokens) +
                       ", expected at least 1");
    }
    const std::vector<Ids> prompts = {ids_of(input)};
    const std::vector<std::uint64_t> seeds = {seed_};
    GenerateOptions options;
    options.max_new_tokens = max_new_tokens;
    options.use_cache = ssd_.variant->causal();
    options.sampling = {static_cast<float>(temperature), top_k, static_cast<float>(top_p)};
    if (stop_at_eos) options.stop_tokens = files_.stop_tokens();
    Ids tokens;
    {
      const nb::gil_scoped_release others_may_run;
      tokens = generate(model_, ssd_, prompts, seeds, options)[0].tokens;
    }
    if (nb::isinstance<nb::str>(input)) return nb::cast(files_.decode(tokens));
    return nb::cast(tokens);
  }

  const OpenModel& files() const { return files_; }
  std::string text() const {
    return "<chunkstate.Model " + files_.name + ": " + files_.config.family + ", " +
           std::to_string(files_.config.parameters()) + " parameters, variant " +
           std::string(ssd_.variant->name) + ">";
  }

 private:
  OpenModel files_;
  Model model_;
  SsdSettings ssd_;
  std::uint64_t seed_;
};

}  // namespace
}  // namespace chunkstate

NB_MODULE(_chunkstate, m) {
  using chunkstate::PythonModel;
  nb::exception<chunkstate::InputError>(m, "InputError", PyExc_ValueError);
  nb::exception<chunkstate::UsageError>(m, "UsageError", PyExc_ValueError);

  nb::class_<PythonModel>(m, "Model",
                          "A model from a Hugging Face folder, or synthetic:NAME. `ids` below is a "
                          "text or any iterable "
                          "of token ids; a text begins with the model's begin-of-text token.")
      .def(
          "__init__",
          [](PythonModel* self, const std::filesystem::path& path, const std::string& dtype,
             const std::string& state_dtype, const std::string& variant, std::int64_t chunk_size,
             std::int64_t lookback, const std::string& backend, std::int64_t layers, int threads,
             std::uint64_t seed) {
            new (self) PythonModel(path.string(), {dtype, state_dtype, variant, backend, chunk_size,
                                                   lookback, layers, threads, seed});
          },
          nb::arg("path"), nb::kw_only(), nb::arg("dtype") = "fp32",
          nb::arg("state_dtype") = "fp32", nb::arg("variant") = "default_optimized",
          nb::arg("chunk_size") = 0, nb::arg("lookback") = 1, nb::arg("backend") = "auto",
          nb::arg("layers") = 0, nb::arg("threads") = 0, nb::arg("seed") = 42)
      .def("logits", &PythonModel::logits, nb::arg("ids"),
           "Logits after every token, float32 [tokens, vocab].")
      .def("score", &PythonModel::nll, nb::arg("ids"),
           "Negative log-likelihood in nats of every token after the first, float32 [tokens - 1].")
      .def("generate", &PythonModel::generate_from, nb::arg("ids"), nb::kw_only(),
           nb::arg("max_new_tokens") = 100, nb::arg("temperature") = 0.0, nb::arg("top_k") = 0,
           nb::arg("top_p") = 1.0, nb::arg("stop_at_eos") = true,
           "What follows: a text for a text, ids for ids. Greedy at temperature 0.")
      .def("encode", &PythonModel::encode, nb::arg("text"), "Ids of a text.")
      .def("decode", &PythonModel::decode, nb::arg("ids"), "The text of ids.")
      .def_prop_ro("family", [](const PythonModel& self) { return self.files().config.family; })
      .def_prop_ro("vocab_size",
                   [](const PythonModel& self) { return self.files().config.vocab_size; })
      .def_prop_ro("parameters",
                   [](const PythonModel& self) { return self.files().config.parameters(); })
      .def_prop_ro("digest", [](const PythonModel& self) { return self.files().digest(); })
      .def("__repr__", &PythonModel::text);
}
