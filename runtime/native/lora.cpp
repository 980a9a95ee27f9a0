#include "lora.hpp"

#include <algorithm>
#include <cmath>

#include "json.hpp"
#include "numeric.hpp"
#include "peft.hpp"
#include "refusal.hpp"

namespace lorarar {

namespace {

enum class Part { down, up, alpha, features, scales };

struct Ending {
  const char* text;
  Part part;
};
constexpr Ending ENDINGS[] = {
    {".lora_A.weight", Part::down},
    {".lora_B.weight", Part::up},
    {".lora_linear_layer.down.weight", Part::down},  // text encoders without attention
    {".lora_linear_layer.up.weight", Part::up},
    {".alpha", Part::alpha},
    {".features", Part::features},
    {".feature_scales", Part::scales},
};
constexpr const char* COMPONENTS[] = {"unet.", "text_encoder.", "text_encoder_2."};
constexpr const char* LEVELS[] = {"small", "full-fp32", "full-fp16", "full-int8"};

struct Parts {
  std::map<Part, Tensor> tensors;

  const Tensor* find(Part part) const {
    const auto found = tensors.find(part);
    return found == tensors.end() ? nullptr : &found->second;
  }
};

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() > end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

bool starts_with(const std::string& text, const std::string& start) {
  return text.compare(0, start.size(), start) == 0;
}

int64_t kernel_of(const Tensor& factor) {
  int64_t size = 1;
  for (size_t axis = 2; axis < factor.shape.size(); ++axis) size *= factor.shape[axis];
  return size;
}

class LoraReader {
 public:
  explicit LoraReader(const std::string& path) : file_(read_safetensors(path)) {}

  Lora read() {
    const bool is_prepared = file_.metadata.count("lorarar.prepared") > 0;
    std::map<std::string, Parts> named;
    for (const auto& [tensor, value] : file_.tensors) add(tensor, value, is_prepared, named);
    Lora lora;
    lora.source = file_.source;
    for (const auto& [name, parts] : named) lora.layers[name] = read_layer(name, parts);
    if (lora.layers.empty()) refuse("no LoRA layers found; give a LoRA");
    if (is_prepared) lora.prepared = read_prepared(named, lora);
    return lora;
  }

 private:
  [[noreturn]] void refuse(const std::string& reason) const {
    throw Refusal(file_.source + ": " + reason);
  }

  [[noreturn]] void refuse_kind(const std::string& reason) const {
    refuse(reason + "; make a canonical file of it: lorarar convert " + file_.source +
           " -o OUT.safetensors --format diffusers");
  }

  void add(const std::string& tensor, const Tensor& value, bool is_prepared,
           std::map<std::string, Parts>& named) const {
    for (const Ending& ending : ENDINGS) {
      const bool of_prepared = ending.part == Part::features || ending.part == Part::scales;
      if (!ends_with(tensor, ending.text) || (of_prepared && !is_prepared)) continue;
      const std::string layer = tensor.substr(0, tensor.size() - std::string(ending.text).size());
      const bool is_canonical =
          std::any_of(std::begin(COMPONENTS), std::end(COMPONENTS), [&](const char* component) {
            return starts_with(layer, component) && layer.size() > std::string(component).size();
          });
      if (!is_canonical) break;
      if (!named[layer].tensors.emplace(ending.part, value).second) {
        refuse("layer '" + layer + "' has a factor twice; save the LoRA again");
      }
      return;
    }
    refuse_kind("tensor '" + tensor + "' is no part of a canonical LoRA");
  }

  Layer read_layer(const std::string& name, const Parts& parts) const {
    const Tensor *up = parts.find(Part::up), *down = parts.find(Part::down);
    if (up == nullptr && down == nullptr) refuse_kind("layer '" + name + "' has no factors");
    if (up == nullptr || down == nullptr) {
      refuse("layer '" + name + "' has no " + (up ? "down factor (lora_A)" : "up factor (lora_B)") +
             "; get the file again");
    }
    for (const Tensor* factor : {up, down}) {
      const Dtype dtype = factor->dtype;
      if (dtype != Dtype::f32 && dtype != Dtype::f16 && dtype != Dtype::bf16) {
        refuse("layer '" + name + "' has " + name_of(dtype) +
               " weights; save them as F32, F16 or BF16");
      }
    }
    if (up->shape.size() < 2 || down->shape.size() < 2 || up->shape[1] != down->shape[0]) {
      refuse("layer '" + name + "' has up " + shape_of(*up) + " and down " + shape_of(*down) +
             ", whose ranks differ (swapped up and down?); save the LoRA again");
    }
    if (up->count() == 0 || down->count() == 0) {
      refuse_kind("layer '" + name + "' has a size of 0");
    }
    if (up->dtype != down->dtype || kernel_of(*up) != 1) {
      refuse_kind("layer '" + name + "' has up " + shape_of(*up) + " " + name_of(up->dtype) +
                  " and down " + shape_of(*down) + " " + name_of(down->dtype));
    }
    return {*up, *down, scale_of(name, parts.find(Part::alpha), down->shape[0])};
  }

  // alpha / rank, from the layer's own alpha or from PEFT's configuration, 1 without either.
  double scale_of(const std::string& name, const Tensor* own, int64_t rank) const {
    if (own != nullptr) {
      const Dtype dtype = own->dtype;
      const bool is_float = dtype == Dtype::f32 || dtype == Dtype::f16 || dtype == Dtype::bf16;
      if (!is_float || own->count() != 1) {
        refuse_kind("layer '" + name + "' has an alpha that is no single F32, F16 or BF16");
      }
      const Tensor wide = as_dtype(*own, Dtype::f32);
      const double alpha = *wide.as<float>();
      if (!std::isfinite(alpha)) {
        refuse("layer '" + name +
               "' has an alpha that is no finite number; write the right one "
               "into the file");
      }
      return alpha / static_cast<double>(rank);
    }
    const size_t dot = name.find('.');
    const auto config = configs_.find(name.substr(0, dot));
    if (config == configs_.end()) return 1;
    const auto named = config->second.alphas.find(name.substr(dot + 1));
    const double alpha =
        named == config->second.alphas.end() ? config->second.alpha : named->second;
    if (!(std::abs(alpha) < 1e30)) refuse("layer '" + name + "' has no usable alpha; get it again");
    return alpha / static_cast<double>(rank);
  }

  Prepared read_prepared(const std::map<std::string, Parts>& named, const Lora& lora) const {
    const std::string what = file_.source + ": its metadata 'lorarar.prepared'";
    const std::string remedy = "run lorarar prepare again";
    const Json about = parse_json(file_.metadata.at("lorarar.prepared"), what, remedy);
    const auto is_text = [&](const char* key) {
      return about.contains(key) && about[key].is_string();
    };
    bool fits = about.is_object() && about.size() == 4 && is_text("role") && is_text("level") &&
                is_text("fingerprint") && about.contains("error") &&
                about["error"].is_number_float();
    Prepared prepared;
    if (fits) {
      prepared = {about["role"], about["level"], about["fingerprint"], {}};
      fits = std::count(std::begin(LEVELS), std::end(LEVELS), prepared.level) > 0;
    }
    for (const auto& [name, parts] : named) {
      const Tensor *values = parts.find(Part::features), *scales = parts.find(Part::scales);
      if (!fits || (values == nullptr && scales == nullptr)) continue;
      fits = values != nullptr && fits_level(*values, scales, prepared, lora.layers.at(name));
      if (fits) prepared.features[name] = {*values, scales ? std::optional(*scales) : std::nullopt};
    }
    if (!fits) throw Refusal(what + " does not fit its tensors; " + remedy);
    return prepared;
  }

  static bool fits_level(const Tensor& values, const Tensor* scales, const Prepared& prepared,
                         const Layer& layer) {
    const bool is_bytes = prepared.level == "full-int8";
    const Dtype dtype = is_bytes                        ? Dtype::i8
                        : prepared.level == "full-fp32" ? Dtype::f32
                                                        : Dtype::f16;
    const int64_t width = prepared.is_full() ? layer.in() : layer.rank();
    if (values.dtype != dtype || values.shape.size() != 2 || values.shape[1] != width) return false;
    if (is_bytes != (scales != nullptr)) return false;
    return !is_bytes || (scales->dtype == Dtype::f32 &&
                         scales->shape == std::vector<int64_t>{values.shape[0], 1});
  }

  Safetensors file_;
  std::map<std::string, PeftConfig> configs_ = read_configs(file_);
};

}  // namespace

const Layer* Lora::find(const std::string& name) const {
  const auto found = layers.find(name);
  return found == layers.end() ? nullptr : &found->second;
}

const Feature& Lora::feature(const std::string& name) const {
  if (prepared) {
    const auto found = prepared->features.find(name);
    if (found != prepared->features.end()) return found->second;
  }
  throw Refusal(source + ": layer '" + name + "' has no features; run lorarar prepare again");
}

Lora read_lora(const std::string& path) { return LoraReader(path).read(); }

}  // namespace lorarar
