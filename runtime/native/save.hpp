// Merged LoRAs as canonical files (lorarar/save.py).
#pragma once

#include <map>
#include <string>

#include "lora.hpp"

namespace lorarar {

// What layers of scale 1 are named in a file, and what it says of their alphas where diffusers
// would take the wrong ones.
Tensors lora_tensors(const std::map<std::string, Layer>& layers);
Metadata alphas_metadata(const std::map<std::string, Layer>& layers);

}  // namespace lorarar
