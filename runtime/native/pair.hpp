// Two LoRAs that are merged: what must hold of both.
#pragma once

#include <string>
#include <vector>

#include "lora.hpp"

namespace lorarar {

constexpr const char* ROLES[] = {"content", "style"};

struct Pair {
  const Lora* sides[2];  // content, style

  const Layer* layer(int side, const std::string& name) const { return sides[side]->find(name); }
  std::vector<std::string> names() const;  // of the layers that either has

  // Throws Refusal if both have the layer, in different shapes.
  void check_shapes(const std::string& name) const;

  // Throws Refusal that names the LoRA to blame for a result of `dtype` that is not finite.
  [[noreturn]] void refuse_weights(const std::string& name, const std::string& dtype) const;
};

}  // namespace lorarar
