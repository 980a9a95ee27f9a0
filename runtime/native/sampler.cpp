#include "sampler.hpp"

#include <algorithm>
#include <cmath>
#include <map>

#include "files.hpp"
#include "json.hpp"
#include "refusal.hpp"

namespace lorarar {

namespace {

// What a configuration may say; whatever else a known key has is refused.
const std::map<std::string, std::vector<Json>> SUPPORTED = {
    {"beta_schedule", {"linear", "scaled_linear"}},
    {"prediction_type", {"epsilon", "v_prediction"}},
    {"timestep_spacing", {"leading", "trailing", "linspace"}},
    {"final_sigmas_type", {"zero"}},
    {"interpolation_type", {"linear"}},
    {"timestep_type", {"discrete"}},
    {"trained_betas", {nullptr}},
    {"rescale_betas_zero_snr", {false, nullptr}},
    {"use_karras_sigmas", {false, nullptr}},
    {"use_exponential_sigmas", {false, nullptr}},
    {"use_beta_sigmas", {false, nullptr}},
    {"use_lu_lambdas", {false, nullptr}},
    {"use_flow_sigmas", {false, nullptr}},
};
constexpr int64_t MOST_TIMESTEPS = 1'000'000;

void refuse_odd(const Json& config, const std::string& path) {
  std::string odd;
  for (const auto& [name, values] : SUPPORTED) {
    if (!config.contains(name)) continue;
    const Json& value = config[name];
    if (std::find(values.begin(), values.end(), value) != values.end()) continue;
    odd += (odd.empty() ? "" : ", ") + name + " " + value.dump();
  }
  if (!odd.empty()) throw Refusal(path + ": " + odd + " is not supported; use the torch pipeline");
}

// As numpy's.
std::vector<double> linspace(double start, double end, int64_t count) {
  std::vector<double> values;
  const double step = (end - start) / static_cast<double>(count - 1);
  for (int64_t i = 0; i + 1 < count; ++i) values.push_back(start + static_cast<double>(i) * step);
  values.push_back(end);
  return values;
}

template <class Function>
Tensor each(const Tensor& x, const Function& function) {
  auto [made, values] = make_tensor<float>(Dtype::f32, x.shape);
  for (size_t i = 0; i < x.count(); ++i) values[i] = function(x.as<float>()[i]);
  return made;
}

}  // namespace

Schedule Schedule::read(const std::string& path) {
  const Json config =
      parse_json(map_file(path, "exported folder").text(), path, "export the model again");
  try {
    const double start = config.at("beta_start"), end = config.at("beta_end");
    const int64_t count = config.at("num_train_timesteps");
    const bool is_scaled = config.at("beta_schedule") == "scaled_linear";
    refuse_odd(config, path);
    if (!(0 < start && start <= end && end < 1 && 1 < count && count <= MOST_TIMESTEPS)) {
      throw Refusal(path + ": betas " + config["beta_start"].dump() + " to " +
                    config["beta_end"].dump() + " in " + std::to_string(count) +
                    " steps; export the model again");
    }
    Schedule schedule{{}, config.value("prediction_type", "epsilon") == "v_prediction",
                      config.at("timestep_spacing"), config.value("steps_offset", 0.0)};
    double product = 1;
    for (const double beta : is_scaled ? linspace(std::sqrt(start), std::sqrt(end), count)
                                       : linspace(start, end, count)) {
      product *= 1 - (is_scaled ? beta * beta : beta);
      schedule.sigmas.push_back(std::sqrt((1 - product) / product));
    }
    return schedule;
  } catch (const Json::exception& error) {
    throw Refusal(path + ": no configuration of a scheduler known here (" + one_line(error.what()) +
                  "); export the model again");
  }
}

std::vector<double> Schedule::timesteps(int steps) const {
  const auto count = static_cast<int>(sigmas.size());
  if (steps < 1 || steps >= count) {
    throw Refusal("--steps " + std::to_string(steps) + ": must be 1 to " +
                  std::to_string(count - 1));
  }
  std::vector<double> times;
  for (int i = 0; i < steps; ++i) {
    if (spacing == "trailing") {
      times.push_back(std::nearbyint(count - i * (double(count) / steps)) - 1);
    } else if (spacing == "leading") {
      times.push_back((steps - 1 - i) * (count / steps) + offset);
    } else {
      times.push_back(steps == 1 ? 0 : (steps - 1 - i) * (double(count - 1) / (steps - 1)));
    }
  }
  return times;
}

double Schedule::sigma_at(double time) const {
  const double last = static_cast<double>(sigmas.size() - 1);
  const double at = std::clamp(time, 0.0, last);
  const auto below = static_cast<size_t>(at);
  if (static_cast<double>(below) == at) return sigmas[below];
  return sigmas[below] + (at - static_cast<double>(below)) * (sigmas[below + 1] - sigmas[below]);
}

Tensor euler(const Schedule& schedule, const Tensor& noise, int steps, const RunUnet& model) {
  const std::vector<double> times = schedule.timesteps(steps);
  const double first = schedule.sigma_at(times.front());
  const bool is_leading = schedule.spacing == "leading";
  const auto start = static_cast<float>(is_leading ? std::sqrt(first * first + 1) : first);
  Tensor x = each(noise, [=](float unit) { return unit * start; });
  for (size_t step = 0; step < times.size(); ++step) {
    const double sigma = schedule.sigma_at(times[step]);
    const double next = step + 1 < times.size() ? schedule.sigma_at(times[step + 1]) : 0;
    const auto scale = static_cast<float>(std::sqrt(sigma * sigma + 1));
    const Tensor sample = each(x, [=](float given) { return given / scale; });
    const Tensor output = model(sample, static_cast<float>(times[step]));
    const auto size = static_cast<float>(sigma);
    const auto change = static_cast<float>((next - sigma) / sigma);
    auto [moved, values] = make_tensor<float>(Dtype::f32, x.shape);
    for (size_t i = 0; i < x.count(); ++i) {
      const float given = x.as<float>()[i], found = output.as<float>()[i];
      const float denoised = schedule.predicts_velocity
                                 ? given / (scale * scale) - size / scale * found
                                 : given - size * found;
      values[i] = given + (given - denoised) * change;
    }
    x = moved;
  }
  return x;
}

}  // namespace lorarar
