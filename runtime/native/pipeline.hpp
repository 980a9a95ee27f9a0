// An exported pipeline, open: tokens and noise in, picture out (runtime/pipeline.py).
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "engine.hpp"
#include "exported.hpp"
#include "merger.hpp"
#include "safetensors.hpp"
#include "sampler.hpp"
#include "slots.hpp"

namespace lorarar {

// What a drawing starts from. ids: of both encoders, (n, tokens) i64, the negative prompt's first
// where n is 2; noise (1, channels, height, width) f32.
struct Given {
  Tensor ids[2];
  Tensor noise;
  std::string source;
};

// As the UNet reads texts: hidden (1, tokens, width), pooled (1, width), f32.
struct Text {
  Tensor hidden, pooled;
};

class Pipeline {
 public:
  // Throws Refusal if the folder is none, of another engine, of a newer format or damaged.
  static Pipeline open(const std::string& folder, int threads);

  const Exported& exported() const { return exported_; }
  const Schedule& schedule() const { return schedule_; }

  // Throws Refusal unless the tensors are what this pipeline takes.
  Given read_given(const std::string& path) const;

  // What is asked for, after what guidance leads away from. guidance: 1 or less for none.
  //
  // Throws Refusal if the negative prompt is missing in a model that knows no zeros for it.
  std::vector<Text> encode(const Given& given, float guidance);

  // Reads two LoRA files and merges them. Throws Refusal if they or the folder cannot.
  Slots pair(const std::string& content, const std::string& style) const;

  // One output of the UNet, with guidance: sample, scaled latents (1, channels, height, width).
  Tensor step(const std::vector<Text>& texts, const Slots& slots, const Tensor& sample, float time,
              float guidance);

  // Latents after all steps.
  Tensor draw(const std::vector<Text>& texts, const Slots& slots, const Tensor& noise, int steps,
              float guidance);

  Tensor decode(const Tensor& latents);  // to (1, 3, height, width) f32, from -1 to 1

 private:
  // `tensors` with all outputs of the part's stages; slots: of the UNet.
  Tensors run(const std::string& part, Tensors tensors, const Slots* slots = nullptr);
  // One of them, f32. Throws Refusal unless it is there, of this shape (-1: any).
  Tensor output(const Tensors& outputs, const std::string& name,
                const std::vector<int64_t>& shape) const;

  Exported exported_;
  std::map<std::string, std::vector<Program>> programs_;  // of each part's stages
  Schedule schedule_;
  std::optional<Merger> merger_;
  int threads_ = 1;
};

}  // namespace lorarar
