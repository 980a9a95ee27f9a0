#include "peft.hpp"

#include <algorithm>
#include <cmath>

#include "json.hpp"
#include "refusal.hpp"

namespace lorarar {

namespace {

constexpr const char* KEY = "lora_adapter_metadata";

bool is_off(const Json& value) { return value.is_null() || value == false; }

// A pattern that is a module's whole name; others may be regular expressions.
bool is_name(const std::string& pattern) {
  return std::all_of(pattern.begin(), pattern.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.';
  });
}

// Whether nothing but alphas sets it apart from a plain LoRA, and these are readable.
bool is_plain(const Json& options) {
  const Json kind = options.value("peft_type", Json());
  const Json alpha = options.value("lora_alpha", Json());
  const Json patterns = options.value("alpha_pattern", Json::object());
  bool is_plain = (kind.is_null() || kind == "LORA") && alpha.is_number() &&
                  (patterns.is_null() || patterns.is_object()) &&
                  is_off(options.value("use_rslora", Json())) &&
                  is_off(options.value("use_dora", Json())) &&
                  !options.value("init_lora_weights", Json()).is_string();
  for (const auto& [pattern, value] : patterns.items()) {
    is_plain = is_plain && is_name(pattern) && value.is_number();
  }
  return is_plain;
}

PeftConfig read_config(const Json& options) {
  PeftConfig config{options.at("lora_alpha").get<double>(), {}};
  const Json patterns = options.value("alpha_pattern", Json());
  for (const auto& [name, alpha] : patterns.items()) config.alphas[name] = alpha.get<double>();
  return config;
}

}  // namespace

std::map<std::string, PeftConfig> read_configs(const Safetensors& file) {
  const auto found = file.metadata.find(KEY);
  if (found == file.metadata.end()) return {};
  const std::string what = file.source + ": its metadata '" + KEY + "'";
  const Json json = parse_json(found->second, what, "get it again");
  if (!json.is_object()) throw Refusal(what + " is no JSON object; get it again");
  std::map<std::string, Json> by_component;
  for (const auto& [key, value] : json.items()) {
    const size_t dot = key.find('.');
    if (dot != std::string::npos) by_component[key.substr(0, dot)][key.substr(dot + 1)] = value;
  }
  std::map<std::string, PeftConfig> configs;
  for (const auto& [component, options] : by_component) {
    if (!is_plain(options)) {
      throw Refusal(what + " says more than alphas; make a canonical file of it: lorarar convert " +
                    file.source + " -o OUT.safetensors --format diffusers");
    }
    configs[component] = read_config(options);
  }
  return configs;
}

}  // namespace lorarar
