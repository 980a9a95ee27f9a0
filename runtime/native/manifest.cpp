#include "manifest.hpp"

#include <algorithm>

#include "json.hpp"
#include "refusal.hpp"

namespace lorarar {

namespace {

constexpr const char* FORMAT = "lorarar.merger.1";
constexpr const char* REMEDY = "export it again with this version";

Mapped from_base64(const std::string& text) {
  static const std::string DIGITS =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  auto memory = allocate(text.size());
  size_t size = 0;
  uint32_t bits = 0;
  int held = 0;
  for (const char c : text) {
    const size_t digit = DIGITS.find(c);
    if (digit == std::string::npos) break;  // the padding
    bits = bits << 6 | static_cast<uint32_t>(digit);
    held += 6;
    if (held < 8) continue;
    held -= 8;
    memory.get()[size++] = static_cast<std::byte>(bits >> held);
  }
  return {memory, size};
}

Tensors unpacked(const Json& json, const std::string& field, const std::string& source) {
  const std::string text = json.value(field, "");
  if (text.empty()) return {};
  return parse_safetensors(from_base64(text), source + ": its " + field).tensors;
}

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

}  // namespace

Manifest Manifest::parse(const std::string& text, const std::string& source) {
  const Json json = parse_json(text, source + ": its manifest", REMEDY);
  Manifest manifest;
  manifest.source = source;
  try {
    if (json.at("format") != FORMAT) {
      throw Refusal(source + ": format " + json.at("format").dump() + ", but this version reads " +
                    FORMAT + "; " + REMEDY);
    }
    json.at("widths").get_to(manifest.widths);
    json.at("hidden").get_to(manifest.hidden);
    json.at("predicts").get_to(manifest.predicts);
    json.at("dtype").get_to(manifest.dtype);
    json.at("fingerprint").get_to(manifest.fingerprint);
    manifest.offsets = unpacked(json, "offsets", source);
    manifest.read_out = unpacked(json, "read_out", source);
  } catch (const Json::exception& error) {
    throw Refusal(source + ": no manifest of an exported hypernetwork (" + error.what() + "); " +
                  REMEDY);
  }
  if (manifest.has_read_out()) {
    const Safetensors weights{manifest.read_out, {}, source + ": its read_out"};
    weights.get("w2", Dtype::f32, {2, manifest.hidden});
    weights.get("b2", Dtype::f32, {2});
    for (const int64_t width : manifest.widths) {
      weights.get("b1." + std::to_string(width), Dtype::f32, {manifest.hidden});
    }
  }
  return manifest;
}

bool Manifest::predicts_layer(const std::string& name) const {
  return name.compare(0, 5, "unet.") == 0 && name.find(".attn") != std::string::npos &&
         std::any_of(predicts.begin(), predicts.end(),
                     [&](const std::string& suffix) { return ends_with(name, suffix); });
}

bool Manifest::takes(const std::string& level) const {
  if (has_read_out()) return level != "small";
  return dtype == "int8" ? level == "full-int8" : level == "full-fp32" || level == "full-fp16";
}

}  // namespace lorarar
