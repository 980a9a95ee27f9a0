// An exported hypernetwork, open: two LoRAs in, coefficients out (runtime/merger.py).
#pragma once

#include <map>
#include <memory>
#include <string>

#include "lora.hpp"

namespace lorarar {

using Coefficients = std::map<std::string, Tensor>;  // layer -> m = (m_c, m_s), (2, in) f32

class Merger {
 public:
  // threads: as many layers side by side.
  //
  // Throws Refusal if the file is damaged or of a newer format.
  static Merger open(const std::string& path, int threads);

  // Throws Refusal for LoRAs that do not fit together or the artefact.
  Coefficients coefficients(const Lora& content, const Lora& style) const;

  // What both have prepared alike decides: "factored", "small" or "full".
  std::string form(const Lora& content, const Lora& style) const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

// The exact merge as one LoRA of rank r_c + r_s, in the content LoRA's dtype, by layer;
// see lorarar/merge.py. Layers without coefficients keep m = 1, 1.
//
// Throws Refusal if shapes differ, weights are not finite, or the result overflows.
std::map<std::string, Layer> weighted_sum(const Lora& content, const Lora& style,
                                          const Coefficients& m, int threads);

}  // namespace lorarar
