// What an exported hypernetwork says of itself (lorarar/artefacts/merger.py).
#pragma once

#include <set>
#include <string>
#include <vector>

#include "safetensors.hpp"

namespace lorarar {

struct Manifest {
  std::string source;
  std::set<int64_t> widths;
  int64_t hidden = 0;
  std::vector<std::string> predicts;
  std::string dtype, fingerprint;
  Tensors offsets;   // of layers, (2, in) f32
  Tensors read_out;  // "w2" (2, hidden), "b2" (2), "b1.<width>" (hidden), f32; older ones have none

  // Throws Refusal unless `text` is a manifest of a format known here.
  static Manifest parse(const std::string& text, const std::string& source);

  bool predicts_layer(const std::string& name) const;
  bool has_read_out() const { return !read_out.empty(); }
  // Whether features prepared at this level can be used together with others of such a level.
  bool takes(const std::string& level) const;
  Dtype input_dtype() const { return dtype == "fp32" ? Dtype::f32 : Dtype::f16; }
};

}  // namespace lorarar
