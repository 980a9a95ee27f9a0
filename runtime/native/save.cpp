#include "save.hpp"

#include <algorithm>
#include <set>

#include "json.hpp"

namespace lorarar {

namespace {

std::string component_of(const std::string& name) { return name.substr(0, name.find('.')); }

}  // namespace

Tensors lora_tensors(const std::map<std::string, Layer>& layers) {
  std::set<std::string> attended;
  for (const auto& [name, layer] : layers) {
    if (name.find(".self_attn.") != std::string::npos) attended.insert(component_of(name));
  }
  Tensors tensors;
  for (const auto& [name, layer] : layers) {
    // diffusers looks for these older names where no attention of a text encoder is adapted.
    const bool is_older =
        name.compare(0, 12, "text_encoder") == 0 && attended.count(component_of(name)) == 0;
    tensors[name + (is_older ? ".lora_linear_layer.down.weight" : ".lora_A.weight")] = layer.down;
    tensors[name + (is_older ? ".lora_linear_layer.up.weight" : ".lora_B.weight")] = layer.up;
  }
  return tensors;
}

Metadata alphas_metadata(const std::map<std::string, Layer>& layers) {
  std::map<std::string, std::map<std::string, int64_t>> ranks;  // component -> module -> rank
  for (const auto& [name, layer] : layers) {
    const std::string component = component_of(name);
    ranks[component][name.substr(component.size() + 1)] = layer.rank();
  }
  bool is_needed = layers.count("text_encoder_2.text_projection") > 0;  // no rank of it is guessed
  Json about;
  for (const auto& [component, modules] : ranks) {
    int64_t usual = 0;
    Json names = Json::array(), unlike = Json::object();
    for (const auto& [module, rank] : modules) usual = std::max(usual, rank);
    for (const auto& [module, rank] : modules) {
      names.push_back(module);
      if (rank != usual) unlike[module] = rank;
    }
    is_needed = is_needed || !unlike.empty();
    about[component + ".peft_type"] = "LORA";
    about[component + ".r"] = usual;
    about[component + ".lora_alpha"] = usual;
    about[component + ".target_modules"] = names;
    about[component + ".rank_pattern"] = unlike;
    about[component + ".alpha_pattern"] = unlike;
  }
  return is_needed ? Metadata{{"lora_adapter_metadata", about.dump()}} : Metadata{};
}

}  // namespace lorarar
