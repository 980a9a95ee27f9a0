// Euler's method on a model's own noise schedule (runtime/samplers.py).
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tensor.hpp"

namespace lorarar {

// x = x_0 + sigma * noise; the UNet sees x / sqrt(sigma^2 + 1).
struct Schedule {
  std::vector<double> sigmas;  // of training's timesteps
  bool predicts_velocity;      // else the noise
  std::string spacing;         // of timesteps: "leading", "trailing" or "linspace"
  double offset;               // of leading timesteps

  // Of a diffusers scheduler_config.json. Throws Refusal if it says what is not known here.
  static Schedule read(const std::string& path);

  // The timesteps of a picture, falling. Throws Refusal if there are fewer than steps.
  std::vector<double> timesteps(int steps) const;
  double sigma_at(double time) const;  // time may lie between those of training
};

// Scaled latents and a timestep -> the model's output.
using RunUnet = std::function<Tensor(const Tensor& sample, float time)>;

// Latents after all steps; noise: unit Gaussian, f32.
Tensor euler(const Schedule& schedule, const Tensor& noise, int steps, const RunUnet& model);

}  // namespace lorarar
