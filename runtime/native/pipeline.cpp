#include "pipeline.hpp"

#include <cstring>

#include "numeric.hpp"
#include "refusal.hpp"

namespace lorarar {

namespace {

constexpr const char* UNET = "unet";
constexpr const char* GUIDANCE_INPUT = "timestep_cond";
constexpr const char* DECODER = "vae_decoder";
constexpr const char* ENCODERS[] = {"text_encoder", "text_encoder_2"};

Tensor joined(const std::vector<Tensor>& parts, size_t axis) {
  std::vector<int64_t> shape = parts.front().shape;
  size_t rows = 1, total = 0;
  for (size_t i = 0; i < axis; ++i) rows *= static_cast<size_t>(shape[i]);
  shape[axis] = 0;
  for (const Tensor& part : parts) {
    shape[axis] += part.shape[axis];
    total += part.bytes();
  }
  auto [whole, to] = make_tensor<std::byte>(parts.front().dtype, shape);
  for (size_t row = 0; row < rows; ++row) {
    for (const Tensor& part : parts) {
      const size_t size = part.bytes() / rows;
      std::memcpy(to, part.data.get() + row * size, size);
      to += size;
    }
  }
  return whole;
}

Tensor row_of(const Tensor& ids, int64_t row) {
  const std::shared_ptr<const std::byte> start(
      ids.data, ids.data.get() + static_cast<size_t>(row * ids.shape[1]) * size_of(ids.dtype));
  return {ids.dtype, {1, ids.shape[1]}, start};
}

// For `count` texts: the size of a training picture, its crop's corner and the size to draw.
Tensor time_ids(int64_t count, int64_t height, int64_t width) {
  auto [ids, values] = make_tensor<float>(Dtype::f32, {count, 6});
  for (int64_t i = 0; i < count; ++i) {
    for (const int64_t size : {height, width, int64_t{0}, int64_t{0}, height, width}) {
      *values++ = static_cast<float>(size);
    }
  }
  return ids;
}

Tensor one_number(float number) {
  auto [tensor, value] = make_tensor<float>(Dtype::f32, {1});
  *value = number;
  return tensor;
}

// unguided + guidance * (asked - unguided) (Ho and Salimans 2207.12598).
Tensor guided(const Tensor& unguided, const Tensor& asked, float guidance) {
  auto [made, values] = make_tensor<float>(Dtype::f32, asked.shape);
  const float *from = unguided.as<float>(), *to = asked.as<float>();
  for (size_t i = 0; i < made.count(); ++i) values[i] = from[i] + guidance * (to[i] - from[i]);
  return made;
}

}  // namespace

Pipeline Pipeline::open(const std::string& folder, int threads) {
  Pipeline pipeline;
  pipeline.threads_ = threads;
  pipeline.exported_ = read_exported(folder);
  const Exported& exported = pipeline.exported_;
  if (exported.engine != ENGINE_FORMAT) {
    throw Refusal(folder + ": was exported for " + exported.engine + ", but this runner has " +
                  ENGINE + "; use the runner built with the other engine, or export it for this");
  }
  for (const Stage& stage : exported.part(UNET)) {
    for (const StageInput& input : stage.inputs) {
      if (input.name != GUIDANCE_INPUT) continue;
      throw Refusal(folder + ": its UNet was distilled with its guidance (it takes '" +
                    GUIDANCE_INPUT + "'), which this runner does not compute; draw with " +
                    "lorarar generate --exported");
    }
  }
  for (const char* part : {ENCODERS[0], ENCODERS[1], UNET, DECODER}) {
    for (const Stage& stage : exported.part(part)) {
      pipeline.programs_[part].push_back(Program::open(exported.path(stage.file), threads));
    }
  }
  pipeline.schedule_ = Schedule::read(exported.path("scheduler/scheduler_config.json"));
  if (!exported.merger.empty()) {
    pipeline.merger_ = Merger::open(exported.path(exported.merger), threads);
  }
  return pipeline;
}

Given Pipeline::read_given(const std::string& path) const {
  const Safetensors file = read_safetensors(path);
  std::vector<int64_t> noise = exported_.unet_input("sample").shape;
  if (noise.size() != 4) {
    throw Refusal(exported_.folder + ": its latents have " + std::to_string(noise.size()) +
                  " axes; export the model again");
  }
  noise[0] = 1;
  Given given{{}, file.get("noise", Dtype::f32, noise), path};
  for (int i = 0; i < 2; ++i) {
    const char* name = i == 0 ? "input_ids" : "input_ids_2";
    given.ids[i] = file.get(name, Dtype::i64, {-1, exported_.tokens});
    const int64_t rows = given.ids[i].shape[0];
    if (rows < 1 || rows > 2 || rows != given.ids[0].shape[0]) {
      throw Refusal(path + ": tensor '" + name + "' has " + std::to_string(rows) +
                    " rows; give the prompt's, perhaps after the negative prompt's, in both");
    }
  }
  const int64_t height = given.noise.shape[2], width = given.noise.shape[3];
  if (height < 4 || width < 4 || height % 4 != 0 || width % 4 != 0) {
    throw Refusal(path + ": tensor 'noise' is " + shape_of(given.noise) +
                  "; its height and width must be multiples of 4");
  }
  return given;
}

std::vector<Text> Pipeline::encode(const Given& given, float guidance) {
  const int64_t rows = given.ids[0].shape[0];
  std::vector<Text> texts;
  for (int64_t row = guidance > 1 ? 0 : rows - 1; row < rows; ++row) {
    std::vector<Tensor> states;
    Tensors outputs;
    for (int i = 0; i < 2; ++i) {
      outputs = run(ENCODERS[i], {{"input_ids", row_of(given.ids[i], row)}});
      const auto name = exported_.penultimate.find(ENCODERS[i]);
      const std::string read = name == exported_.penultimate.end() ? "penultimate" : name->second;
      states.push_back(output(outputs, read, {1, exported_.tokens, -1}));
    }
    texts.push_back({joined(states, 2), output(outputs, "text_embeds", {1, -1})});
  }
  if (guidance > 1 && rows == 1) {
    if (!exported_.zeros_for_empty) {
      throw Refusal(given.source + ": tensor 'input_ids' has one row, but guidance with this model "
                    "needs the empty prompt's before it; give two");
    }
    const Text asked = texts.front();
    texts.insert(texts.begin(), {zeros(Dtype::f32, asked.hidden.shape),
                                 zeros(Dtype::f32, asked.pooled.shape)});
  }
  return texts;
}

Slots Pipeline::pair(const std::string& content, const std::string& style) const {
  if (!merger_) {
    throw Refusal(exported_.folder + ": has no hypernetwork; export it with --hypernet");
  }
  const Lora one = read_lora(content), other = read_lora(style);
  check_fit(exported_, one);
  check_fit(exported_, other);
  return pair_slots(exported_, one, other, merger_->coefficients(one, other), threads_);
}

Tensor Pipeline::step(const std::vector<Text>& texts, const Slots& slots, const Tensor& sample,
                      float time, float guidance) {
  const int64_t height = sample.shape[2] * exported_.pixels;
  const int64_t width = sample.shape[3] * exported_.pixels;
  const auto predict = [&](const std::vector<Text>& batch) {
    std::vector<Tensor> samples, hidden, pooled;
    for (const Text& text : batch) {
      samples.push_back(sample);
      hidden.push_back(text.hidden);
      pooled.push_back(text.pooled);
    }
    const Tensor batch_of_samples = joined(samples, 0);
    const auto count = static_cast<int64_t>(batch.size());
    const Tensors given = {{"sample", batch_of_samples},
                           {"timestep", one_number(time)},
                           {"encoder_hidden_states", joined(hidden, 0)},
                           {"text_embeds", joined(pooled, 0)},
                           {"time_ids", time_ids(count, height, width)}};
    return output(run(UNET, given, &slots), "out_sample", batch_of_samples.shape);
  };
  const bool takes_any_batch = exported_.unet_input("sample").shape.front() == -1;
  std::vector<Tensor> outputs;
  if (takes_any_batch) {
    const Tensor both = predict(texts);
    const size_t size = both.bytes() / texts.size();
    for (size_t i = 0; i < texts.size(); ++i) {
      outputs.push_back({both.dtype, sample.shape, {both.data, both.data.get() + i * size}});
    }
  } else {
    for (const Text& text : texts) outputs.push_back(predict({text}));
  }
  return outputs.size() == 1 ? outputs.front() : guided(outputs[0], outputs[1], guidance);
}

Tensor Pipeline::draw(const std::vector<Text>& texts, const Slots& slots, const Tensor& noise,
                      int steps, float guidance) {
  return euler(schedule_, noise, steps, [&](const Tensor& sample, float time) {
    return step(texts, slots, sample, time, guidance);
  });
}

Tensor Pipeline::decode(const Tensor& latents) {
  auto [given, values] = make_tensor<float>(Dtype::f32, latents.shape);
  const auto scaling = static_cast<float>(exported_.scaling);
  for (size_t i = 0; i < latents.count(); ++i) values[i] = latents.as<float>()[i] / scaling;
  const Tensor picture =
      output(run(DECODER, {{"latent_sample", given}}), "sample", {1, 3, -1, -1});
  if (!is_finite(picture)) {
    throw Refusal(exported_.folder +
                  ": drew pixels that are not finite; lower guidance or LoRAs' scales");
  }
  return picture;
}

Tensor Pipeline::output(const Tensors& outputs, const std::string& name,
                        const std::vector<int64_t>& shape) const {
  const auto found = outputs.find(name);
  if (found != outputs.end() && fits(found->second, Dtype::f32, shape)) return found->second;
  throw Refusal(exported_.folder + ": gives no '" + name + "' of " +
                shape_of({Dtype::f32, shape, nullptr}) + " F32; export the model again");
}

Tensors Pipeline::run(const std::string& part, Tensors tensors, const Slots* slots) {
  const std::vector<Stage>& stages = exported_.part(part);
  for (size_t i = 0; i < stages.size(); ++i) {
    const Stage& stage = stages[i];
    NamedTensors inputs;
    for (const StageInput& input : stage.inputs) {
      const auto found = tensors.find(input.name);
      if (found == tensors.end() || !fits(found->second, input.dtype, input.shape)) {
        const std::string what = found == tensors.end() ? "nothing" : shape_of(found->second);
        throw Refusal(exported_.path(stage.file) + ": input '" + input.name + "' cannot be " +
                      what + "; export the model again");
      }
      inputs.emplace_back(found->first, found->second);
    }
    if (slots != nullptr) inputs.insert(inputs.end(), (*slots)[i].begin(), (*slots)[i].end());
    const std::vector<Tensor> outputs = programs_.at(part)[i].run("forward", inputs, stage.outputs);
    for (size_t j = 0; j < outputs.size(); ++j) tensors[stage.outputs[j]] = outputs[j];
  }
  return tensors;
}

}  // namespace lorarar
