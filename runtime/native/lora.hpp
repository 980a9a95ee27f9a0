// Canonical LoRA files, plain or prepared (docs/formats.md).
#pragma once

#include <map>
#include <optional>
#include <string>

#include "safetensors.hpp"

namespace lorarar {

// dW = scale * up @ down; up (out, rank), down (rank, in), both of one dtype: f16, bf16 or f32.
// Convolutions keep trailing kernel axes.
struct Layer {
  Tensor up, down;
  double scale = 1;

  int64_t out() const { return up.shape[0]; }
  int64_t in() const { return down.shape[1]; }
  int64_t rank() const { return down.shape[0]; }
};

// values (hidden, rank) at level "small", (hidden, in) at level "full-..."; scales (hidden, 1) f32
// beside i8 values.
struct Feature {
  Tensor values;
  std::optional<Tensor> scales;
};

struct Prepared {
  std::string role, level, fingerprint;
  std::map<std::string, Feature> features;

  bool is_full() const { return level != "small"; }
};

struct Lora {
  std::map<std::string, Layer> layers;  // "unet.<layer>", "text_encoder.<layer>", ...
  std::optional<Prepared> prepared;
  std::string source;

  const Layer* find(const std::string& name) const;
  // Throws Refusal if it is not prepared, or lacks this layer's features.
  const Feature& feature(const std::string& name) const;
};

// Throws Refusal for bad files, other layouts and kinds (remedy: lorarar convert).
Lora read_lora(const std::string& path);

}  // namespace lorarar
