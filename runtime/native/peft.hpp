// What diffusers keeps of PEFT's configuration in a LoRA's metadata, `lora_adapter_metadata`.
#pragma once

#include <map>
#include <string>

#include "safetensors.hpp"

namespace lorarar {

struct PeftConfig {
  double alpha;                          // of modules that `alphas` does not name
  std::map<std::string, double> alphas;  // by whole module name
};

// By component, as "unet"; empty if the file says nothing.
//
// Throws Refusal if it is malformed or says more than alphas (remedy: lorarar convert).
std::map<std::string, PeftConfig> read_configs(const Safetensors& file);

}  // namespace lorarar
