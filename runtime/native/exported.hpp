// What an exported folder says of itself (lorarar/artefacts/pipeline.py).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tensor.hpp"

namespace lorarar {

struct StageInput {
  std::string name;
  Dtype dtype;
  std::vector<int64_t> shape;  // -1 where dynamic
};

struct Projection {
  std::string name;  // without "unet."
  int64_t out, in;   // of its weights
};

// One program: its inputs in order, after which come the projections' factors, down then up.
struct Stage {
  std::string file;
  std::vector<StageInput> inputs;
  std::vector<std::string> outputs;
  std::vector<Projection> projections;
};

// pairs: projections have a content slot and a style slot, each with coefficients, and need not be
// fed; else one slot, to be fed always, in one rank for a whole stage.
struct Exported {
  std::string folder;
  std::string engine;  // "executorch" or "onnx"
  std::string base;
  Dtype slot_dtype;
  bool pairs;
  int64_t rank;  // the largest
  int64_t tokens, channels, pixels;
  std::map<std::string, std::string> penultimate;  // text encoder -> the output that the UNet reads
  bool zeros_for_empty;
  double scaling;  // of latents
  std::map<std::string, std::vector<Stage>> parts;
  std::string merger;  // empty for none
  std::map<std::string, std::pair<uint64_t, std::string>> files;  // path -> bytes, SHA-256

  std::string path(const std::string& file) const { return folder + "/" + file; }
  // Throws Refusal if the folder lacks it.
  const std::vector<Stage>& part(const std::string& name) const;
  const StageInput& unet_input(const std::string& name) const;
  std::map<std::string, Projection> projections() const;  // of the UNet, by name
};

// Reads the manifest, and every file that it lists, for its size and hash.
//
// Throws Refusal if there is none, if it is damaged or of a format unknown here, if a file is
// outside the folder, missing or damaged.
Exported read_exported(const std::string& folder);

}  // namespace lorarar
