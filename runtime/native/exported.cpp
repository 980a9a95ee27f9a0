#include "exported.hpp"

#include <algorithm>
#include <stdexcept>

#include "files.hpp"
#include "json.hpp"
#include "refusal.hpp"
#include "sha256.hpp"

namespace lorarar {

namespace {

constexpr const char* FORMAT = "lorarar.pipeline.2";
constexpr const char* MANIFEST = "lorarar.json";
constexpr const char* REMEDY = "export the model again";

using Ordered = nlohmann::ordered_json;  // stages take inputs and factors in the manifest's order

struct Damage : std::runtime_error {  // of the manifest
  using std::runtime_error::runtime_error;
};

std::string inside(const std::string& name) {
  bool is_outside = name.empty() || name.front() == '/';
  for (size_t start = 0; start <= name.size();) {
    const size_t end = std::min(name.find('/', start), name.size());
    is_outside |= name.compare(start, end - start, "..") == 0;
    start = end + 1;
  }
  if (is_outside) throw Damage("'" + name + "' is outside the folder");
  return name;
}

Dtype dtype_named(const std::string& name) {
  if (name == "float32") return Dtype::f32;
  if (name == "float16") return Dtype::f16;
  if (name == "int64") return Dtype::i64;
  throw Damage("dtype '" + name + "' is unknown");
}

StageInput parse_input(const std::string& name, const Ordered& json) {
  StageInput input{name, dtype_named(json.at(0).get<std::string>()), {}};
  for (const Ordered& size : json.at(1)) {
    input.shape.push_back(size.is_null() ? -1 : size.get<int64_t>());
  }
  return input;
}

Stage parse_stage(const Ordered& json) {
  Stage stage;
  stage.file = inside(json.at("file").get<std::string>());
  for (const auto& [name, input] : json.at("inputs").items()) {
    stage.inputs.push_back(parse_input(name, input));
  }
  json.at("outputs").get_to(stage.outputs);
  for (const auto& [name, shape] : json.at("layers").items()) {
    stage.projections.push_back({name, shape.at(0).get<int64_t>(), shape.at(1).get<int64_t>()});
    if (stage.projections.back().out < 1 || stage.projections.back().in < 1) {
      throw Damage("layer '" + name + "' has no size");
    }
  }
  return stage;
}

Exported parse(const Ordered& json, const std::string& folder) {
  Exported exported;
  exported.folder = folder;
  json.at("engine").get_to(exported.engine);
  json.at("base").get_to(exported.base);
  exported.slot_dtype = dtype_named(json.at("slot_dtype").get<std::string>());
  json.at("pairs").get_to(exported.pairs);
  json.at("rank").get_to(exported.rank);
  json.at("tokens").get_to(exported.tokens);
  json.at("channels").get_to(exported.channels);
  json.at("pixels").get_to(exported.pixels);
  json.at("penultimate").get_to(exported.penultimate);
  json.at("zeros_for_empty").get_to(exported.zeros_for_empty);
  json.at("scaling").get_to(exported.scaling);
  for (const auto& [part, stages] : json.at("parts").items()) {
    for (const Ordered& stage : stages) exported.parts[part].push_back(parse_stage(stage));
  }
  if (!json.at("merger").is_null()) exported.merger = inside(json["merger"].get<std::string>());
  for (const auto& [name, about] : json.at("files").items()) {
    exported.files[inside(name)] = {about.at(0).get<uint64_t>(), about.at(1).get<std::string>()};
  }
  return exported;
}

void check_files(const Exported& exported) {
  for (const auto& [name, wanted] : exported.files) {
    const std::string path = exported.path(name);
    const Mapped file = map_file(path, "exported folder");
    Sha256 hash;
    std::string differs;
    if (file.size != wanted.first) {
      differs = "size";
    } else {
      hash.add(file.data.get(), file.size);
      if (hash.hex() != wanted.second) differs = "SHA-256";
    }
    if (differs.empty()) continue;
    throw Refusal(path + ": its " + differs + " is not what " + MANIFEST +
                  " says, so it is damaged; " + REMEDY);
  }
}

}  // namespace

const std::vector<Stage>& Exported::part(const std::string& name) const {
  const auto found = parts.find(name);
  if (found != parts.end() && !found->second.empty()) return found->second;
  throw Refusal(path(MANIFEST) + ": has no part '" + name + "'; " + REMEDY);
}

const StageInput& Exported::unet_input(const std::string& name) const {
  for (const StageInput& input : part("unet").front().inputs) {
    if (input.name == name) return input;
  }
  throw Refusal(path(MANIFEST) + ": its UNet takes no '" + name + "'; " + REMEDY);
}

std::map<std::string, Projection> Exported::projections() const {
  std::map<std::string, Projection> found;
  for (const Stage& stage : part("unet")) {
    for (const Projection& projection : stage.projections) found[projection.name] = projection;
  }
  return found;
}

Exported read_exported(const std::string& folder) {
  const std::string path = folder + "/" + MANIFEST;
  const Mapped file = map_file(path, "exported folder");
  const Json checked = parse_json(file.text(), path, REMEDY);
  const Json format = checked.is_object() ? checked.value("format", Json()) : Json();
  if (format != FORMAT) {
    throw Refusal(path + ": format " + format.dump() + ", but this version reads " + FORMAT + "; " +
                  REMEDY + " with this version");
  }
  std::string reason;
  try {
    const Exported exported = parse(Ordered::parse(file.text()), folder);
    check_files(exported);
    return exported;
  } catch (const Damage& error) {
    reason = error.what();
  } catch (const Ordered::exception& error) {
    reason = one_line(error.what());
  }
  throw Refusal(path + ": damaged (" + reason + "); " + REMEDY);
}

}  // namespace lorarar
