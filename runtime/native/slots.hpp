// LoRA pairs as an exported UNet takes them (runtime/slots.py).
#pragma once

#include <string>

#include "engine.hpp"
#include "exported.hpp"
#include "lora.hpp"
#include "merger.hpp"

namespace lorarar {

using Slots = std::vector<NamedTensors>;  // for each stage of the UNet what follows its inputs

// Without any LoRA.
Slots empty_slots(const Exported& exported);

// Throws Refusal if a layer has no slot or another shape than its slot, if a rank is over the
// export's limit, or if weights are not finite.
void check_fit(const Exported& exported, const Lora& lora);

// Two LoRAs that fit, merged by `m`: as they are, with the coefficients beside them, where the
// export takes pairs, else as one LoRA, filled up with zeros to one rank for each stage.
//
// Throws Refusal if the ranks' sum is over the export's limit, or if weights overflow.
Slots pair_slots(const Exported& exported, const Lora& content, const Lora& style,
                 const Coefficients& m, int threads);

}  // namespace lorarar
