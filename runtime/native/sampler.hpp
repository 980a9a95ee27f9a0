// Euler's method on a model's own noise schedule (runtime/noise_schedule.py, runtime/samplers.py).
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "json.hpp"
#include "tensor.hpp"

namespace lorarar {

// Where Euler steps.
struct Levels {
  std::vector<double> times;   // as the model knows them
  std::vector<double> sigmas;  // one more, the last 0
  double start;                // what unit noise is multiplied by to begin with
};

// x = x_0 + sigma * noise; the UNet sees x / sqrt(sigma^2 + deviation^2).
struct Schedule {
  Json config;                 // every value said, as lorarar/artefacts/scheduler.py writes it
  std::string source;          // its file
  std::vector<double> sigmas;  // of training's timesteps; none of EDM's models
  bool predicts_velocity;      // else the noise
  double deviation;            // of the data: 1 but for EDM's models

  // Of a diffusers scheduler_config.json. Throws Refusal if it says what is not known here.
  static Schedule read(const std::string& path);

  // Throws Refusal if the model's own scheduler draws with another sampler than Euler's.
  void check_euler() const;

  // Throws Refusal if there are fewer timesteps than steps.
  Levels levels(int steps) const;

 private:
  std::vector<double> timesteps(int steps) const;
  double sigma_at(double time) const;  // time may lie between those of training
  double time_at(double sigma) const;
};

// Scaled latents and a timestep -> the model's output.
using RunUnet = std::function<Tensor(const Tensor& sample, float time)>;

// Latents after all steps; noise: unit Gaussian, f32.
Tensor euler(const Schedule& schedule, const Tensor& noise, int steps, const RunUnet& model);

}  // namespace lorarar
