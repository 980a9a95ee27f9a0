#include "merger.hpp"

#include <vector>

#include "engine.hpp"
#include "loops.hpp"
#include "manifest.hpp"
#include "numeric.hpp"
#include "pair.hpp"
#include "parallel.hpp"
#include "refusal.hpp"

namespace lorarar {

namespace {

const std::string FACTORED = "factored", SMALL = "small", FULL = "full";

Tensor scaled(const Tensor& factor, float by, Dtype dtype) {
  auto [made, memory] = make_tensor<std::byte>(dtype, factor.shape);
  const size_t count = factor.count();
  loops().scale(factor.dtype, dtype, {factor.data.get(), memory, 1, count, count, by, nullptr, 1});
  return made;
}

// up and down with alpha / rank folded in, so that neither loses digits in `dtype`.
std::pair<Tensor, Tensor> scaled_factors(const Layer& layer, Dtype dtype) {
  if (layer.scale == 1) return {as_dtype(layer.up, dtype), as_dtype(layer.down, dtype)};
  const auto [of_up, of_down] = split_scale(layer.scale, layer.up, layer.down, dtype);
  return {scaled(layer.up, of_up, dtype), scaled(layer.down, of_down, dtype)};
}

void check_prepared(const Lora& lora, const std::string& role, const Manifest& manifest) {
  if (!lora.prepared) return;
  if (lora.prepared->role != role) {
    throw Refusal(lora.source + ": prepared as " + lora.prepared->role + " but used as " + role +
                  "; run: lorarar prepare --role " + role);
  }
  if (lora.prepared->fingerprint != manifest.fingerprint) {
    throw Refusal(lora.source + ": prepared for another hypernetwork than " + manifest.source +
                  "; run lorarar prepare with this one");
  }
}

const Feature& feature_of(const std::string& name, const Lora& lora, const Manifest& manifest) {
  const Feature& kept = lora.feature(name);
  if (kept.values.shape[0] != manifest.hidden) {
    throw Refusal(lora.source + ": layer '" + name + "' has features of " + shape_of(kept.values) +
                  ", but " + manifest.source + " has " + std::to_string(manifest.hidden) +
                  " hidden ones; run lorarar prepare again");
  }
  return kept;
}

// One side's inputs of a graph, in order, for a layer of the shape of `any`; zeros for a LoRA that
// lacks the layer.
NamedTensors graph_inputs(const std::string& name, const std::string& form, const Lora& lora,
                          const Layer& any, const Manifest& manifest) {
  const Dtype dtype = manifest.input_dtype();
  const Layer* layer = lora.find(name);
  if (form == FACTORED) {
    if (layer == nullptr) {
      return {{"up", zeros(dtype, {any.out(), 1})}, {"down", zeros(dtype, {1, any.in()})}};
    }
    const auto [up, down] = scaled_factors(*layer, dtype);
    return {{"up", up}, {"down", down}};
  }
  const Feature* kept = layer ? &feature_of(name, lora, manifest) : nullptr;
  if (form == SMALL) {
    return {
        {"projected", kept ? as_dtype(kept->values, dtype) : zeros(dtype, {manifest.hidden, 1})},
        {"down", layer ? as_dtype(layer->down, dtype) : zeros(dtype, {1, any.in()})}};
  }
  const Dtype stored = manifest.dtype == "int8" ? Dtype::i8 : dtype;
  NamedTensors inputs = {{"features", kept ? as_dtype(kept->values, stored)
                                           : zeros(stored, {manifest.hidden, any.in()})}};
  if (stored == Dtype::i8) {
    inputs.emplace_back("scales", kept ? *kept->scales : zeros(Dtype::f32, {manifest.hidden, 1}));
  }
  return inputs;
}

// What the graph of form "full" computes, on features as they are stored.
Tensor read_out(const std::string& name, const Layer& any, const Pair& pair,
                const Manifest& manifest) {
  const auto columns = static_cast<size_t>(any.in());
  const Tensor none = zeros(Dtype::f32, {any.in()});
  Side sides[2];
  for (int side = 0; side < 2; ++side) {
    if (pair.layer(side, name) == nullptr) {
      sides[side] = {Dtype::f32, none.data.get(), nullptr, 0};
      continue;
    }
    const Feature& kept = feature_of(name, *pair.sides[side], manifest);
    const float* scales = kept.scales ? kept.scales->as<float>() : nullptr;
    sides[side] = {kept.values.dtype, kept.values.data.get(), scales, columns};
  }
  const auto weights = [&](const std::string& key) {
    return manifest.read_out.at(key).as<float>();
  };
  const ReadOut by{weights("w2"), weights("b2"), weights("b1." + std::to_string(any.out()))};
  auto [m, values] = make_tensor<float>(Dtype::f32, {2, any.in()});
  loops().read_out(sides[0], sides[1], by, static_cast<size_t>(manifest.hidden), columns, values);
  return m;
}

Tensor with_offset(const std::string& name, const Tensor& m, const Manifest& manifest) {
  const auto found = manifest.offsets.find(name);
  if (found == manifest.offsets.end()) return m;
  const Tensor& offset = found->second;
  if (offset.dtype != Dtype::f32 || offset.shape != m.shape) {
    throw Refusal(manifest.source + ": layer '" + name + "' has " + std::to_string(m.shape[1]) +
                  " columns, but this hypernetwork was trained for " + shape_of(offset) +
                  "; give one trained for this base model");
  }
  auto [sum, values] = make_tensor<float>(Dtype::f32, m.shape);
  for (size_t i = 0; i < m.count(); ++i) values[i] = m.as<float>()[i] + offset.as<float>()[i];
  return sum;
}

}  // namespace

struct Merger::State {
  Manifest manifest;
  std::vector<Program> programs;  // one for each thread

  // m of one layer; `program` is no other thread's.
  Tensor predict(Program& program, const std::string& name, const std::string& form,
                 const Pair& pair) const {
    const int first = pair.layer(0, name) != nullptr ? 0 : 1;
    const Layer& any = *pair.layer(first, name);
    if (!manifest.widths.count(any.out())) {
      throw Refusal(manifest.source + ": layer '" + name + "' has out width " +
                    std::to_string(any.out()) +
                    ", which this artefact does not know; export a "
                    "hypernetwork for this base model");
    }
    if (any.down.shape.size() != 2) {
      throw Refusal(pair.sides[first]->source + ": layer '" + name +
                    "' is kept as a convolution; make a canonical file of it: lorarar convert");
    }
    const bool is_direct = form == FULL && manifest.has_read_out();
    Tensor m =
        is_direct ? read_out(name, any, pair, manifest) : run_graph(program, name, form, any, pair);
    m = with_offset(name, m, manifest);
    if (!is_finite(m)) pair.refuse_weights(name, "float32");
    return m;
  }

  Tensor run_graph(Program& program, const std::string& name, const std::string& form,
                   const Layer& any, const Pair& pair) const {
    NamedTensors inputs;
    for (int side = 0; side < 2; ++side) {
      for (const auto& [part, tensor] :
           graph_inputs(name, form, *pair.sides[side], any, manifest)) {
        inputs.emplace_back(part + "_" + ROLES[side], tensor);
      }
    }
    const Tensor m = program.run(form + "_" + std::to_string(any.out()), inputs, {"m"}).front();
    if (m.dtype != Dtype::f32 || m.shape != std::vector<int64_t>{2, any.in()}) {
      throw Refusal(manifest.source + ": gives " + shape_of(m) + " for layer '" + name +
                    "'; export it again");
    }
    return m;
  }
};

Merger Merger::open(const std::string& path, int threads) {
  Merger merger;
  merger.state_ = std::make_shared<State>();
  for (int i = 0; i < threads; ++i) merger.state_->programs.push_back(Program::open(path, 1));
  merger.state_->manifest = Manifest::parse(merger.state_->programs.front().manifest(), path);
  return merger;
}

std::string Merger::form(const Lora& content, const Lora& style) const {
  if (!content.prepared || !style.prepared) return FACTORED;
  const std::string &one = content.prepared->level, &other = style.prepared->level;
  if (one == SMALL && other == SMALL) return SMALL;
  const Manifest& manifest = state_->manifest;
  return manifest.takes(one) && manifest.takes(other) ? FULL : FACTORED;
}

Coefficients Merger::coefficients(const Lora& content, const Lora& style) const {
  const Pair pair{{&content, &style}};
  const Manifest& manifest = state_->manifest;
  for (int side = 0; side < 2; ++side) check_prepared(*pair.sides[side], ROLES[side], manifest);
  std::vector<std::string> names;
  for (const std::string& name : pair.names()) {
    if (!manifest.predicts_layer(name)) continue;
    pair.check_shapes(name);
    names.push_back(name);
  }
  if (names.empty()) {
    throw Refusal(content.source + ", " + style.source + ": no layer that " + manifest.source +
                  " predicts; use lorarar merge --method direct");
  }
  const std::string form = this->form(content, style);
  std::vector<Tensor> found(names.size());
  side_by_side(names.size(), state_->programs.size(), [&](size_t worker, size_t i) {
    found[i] = state_->predict(state_->programs[worker], names[i], form, pair);
  });
  Coefficients coefficients;
  for (size_t i = 0; i < names.size(); ++i) coefficients[names[i]] = found[i];
  return coefficients;
}

}  // namespace lorarar
