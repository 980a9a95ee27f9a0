#include "slots.hpp"

#include <algorithm>
#include <cstring>

#include "numeric.hpp"
#include "refusal.hpp"

namespace lorarar {

namespace {

constexpr const char* PREFIXES[] = {"", "style."};  // of the content slot's and style slot's inputs
const std::string UNET = "unet.";

std::string input_of(const Projection& projection, const std::string& end, int side = 0) {
  return UNET + projection.name + "." + PREFIXES[side] + end;
}

void check_layer(const std::string& name, const Layer& layer, const std::string& source,
                 const std::map<std::string, Projection>& projections, const Exported& exported) {
  const std::string where = source + ": layer '" + name + "' ";
  const auto slot = projections.find(name.substr(std::min(UNET.size(), name.size())));
  if (name.compare(0, UNET.size(), UNET) != 0 || slot == projections.end() ||
      layer.down.shape.size() != 2) {
    throw Refusal(where + "has no slot in " + exported.folder + ", whose base is " + exported.base +
                  " and whose slots are the attention layers; give a LoRA of these");
  }
  const Projection& projection = slot->second;
  if (layer.out() != projection.out || layer.in() != projection.in) {
    throw Refusal(where + "is " + std::to_string(layer.out()) + "x" + std::to_string(layer.in()) +
                  ", but " + exported.folder + " (" + exported.base + ") has " +
                  std::to_string(projection.out) + "x" + std::to_string(projection.in) +
                  "; this LoRA is for another base model");
  }
  if (layer.rank() > exported.rank) {
    throw Refusal(where + "has rank " + std::to_string(layer.rank()) + ", but " + exported.folder +
                  " takes " + std::to_string(exported.rank) +
                  " at most; reduce it with: lorarar merge --rank");
  }
  if (!is_finite(layer.up) || !is_finite(layer.down)) {
    throw Refusal(where + "has NaN or infinite weights; get it again");
  }
}

void check_layers(const Exported& exported, const std::map<std::string, Layer>& layers,
                  const std::string& source) {
  const auto projections = exported.projections();
  for (const auto& [name, layer] : layers) {
    check_layer(name, layer, source, projections, exported);
  }
}

Tensor as_slot(const Tensor& factor, const std::string& name, const Exported& exported) {
  const Tensor given = as_dtype(factor, exported.slot_dtype);
  if (given.dtype != factor.dtype && !is_finite(given)) {
    throw Refusal("layer '" + name + "' overflows " + name_of(exported.slot_dtype) +
                  "; use smaller weights");
  }
  return given;
}

// m of a LoRA's columns times its scale; of (1) where a hypernetwork gives none.
Tensor columns_of(const Layer& layer, const Tensor* m, int side) {
  const int64_t count = m == nullptr ? 1 : layer.in();
  auto [columns, values] = make_tensor<float>(Dtype::f32, {count});
  const auto scale = static_cast<float>(layer.scale);
  for (int64_t i = 0; i < count; ++i) {
    values[i] = scale * (m == nullptr ? 1.0f : m->as<float>()[side * count + i]);
  }
  return columns;
}

NamedTensors of_two(const Stage& stage, const Exported& exported, const Lora* const (&pair)[2],
                    const Coefficients& m) {
  NamedTensors slots;
  for (const Projection& projection : stage.projections) {
    const std::string name = UNET + projection.name;
    const auto found = m.find(name);
    for (int side = 0; side < 2; ++side) {
      const Layer* layer = pair[side]->find(name);
      if (layer == nullptr) continue;
      const Tensor columns =
          columns_of(*layer, found == m.end() ? nullptr : &found->second, side);
      if (!is_finite(columns)) {
        throw Refusal(pair[side]->source + ": layer '" + name +
                      "' has coefficients that are not finite; get it again");
      }
      slots.emplace_back(input_of(projection, "lora_A.weight", side),
                         as_slot(layer->down, name, exported));
      slots.emplace_back(input_of(projection, "lora_B.weight", side),
                         as_slot(layer->up, name, exported));
      slots.emplace_back(input_of(projection, "m", side), columns);
    }
  }
  return slots;
}

// `factor`, or zeros for null, in the upper left of a matrix of zeros.
Tensor filled(const Tensor* factor, std::vector<int64_t> shape, const std::string& name,
              const Exported& exported) {
  if (factor == nullptr) return zeros(exported.slot_dtype, shape);
  const Tensor given = as_slot(*factor, name, exported);
  if (given.shape == shape) return given;
  auto [whole, memory] = make_tensor<std::byte>(exported.slot_dtype, shape);
  const size_t rows = static_cast<size_t>(given.shape[0]), size = size_of(given.dtype);
  const size_t own = static_cast<size_t>(given.shape[1]) * size;
  const size_t row = static_cast<size_t>(shape[1]) * size;
  std::memset(memory, 0, whole.bytes());
  for (size_t i = 0; i < rows; ++i) std::memcpy(memory + i * row, given.data.get() + i * own, own);
  return whole;
}

NamedTensors of_one(const Stage& stage, const Exported& exported,
                    const std::map<std::string, Layer>& layers) {
  const auto layer_of = [&](const Projection& projection) {
    const auto found = layers.find(UNET + projection.name);
    return found == layers.end() ? nullptr : &found->second;
  };
  int64_t rank = 1;
  for (const Projection& projection : stage.projections) {
    const Layer* layer = layer_of(projection);
    if (layer != nullptr) rank = std::max(rank, layer->rank());
  }
  NamedTensors slots;
  for (const Projection& projection : stage.projections) {
    const Layer* layer = layer_of(projection);
    slots.emplace_back(input_of(projection, "lora_A.weight"),
                       filled(layer ? &layer->down : nullptr, {rank, projection.in},
                              projection.name, exported));
    slots.emplace_back(input_of(projection, "lora_B.weight"),
                       filled(layer ? &layer->up : nullptr, {projection.out, rank},
                              projection.name, exported));
  }
  return slots;
}

}  // namespace

Slots empty_slots(const Exported& exported) {
  Slots slots;
  for (const Stage& stage : exported.part("unet")) {
    slots.push_back(exported.pairs ? NamedTensors{} : of_one(stage, exported, {}));
  }
  return slots;
}

void check_fit(const Exported& exported, const Lora& lora) {
  check_layers(exported, lora.layers, lora.source);
}

Slots pair_slots(const Exported& exported, const Lora& content, const Lora& style,
                 const Coefficients& m, int threads) {
  const Lora* const pair[] = {&content, &style};
  std::map<std::string, Layer> merged;
  if (!exported.pairs) {
    merged = weighted_sum(content, style, m, threads);
    check_layers(exported, merged, content.source + " and " + style.source + ", merged");
  }
  Slots slots;
  for (const Stage& stage : exported.part("unet")) {
    slots.push_back(exported.pairs ? of_two(stage, exported, pair, m)
                                   : of_one(stage, exported, merged));
  }
  return slots;
}

}  // namespace lorarar
