#include "sampler.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <set>

#include "files.hpp"
#include "refusal.hpp"

namespace lorarar {

namespace {

// What a configuration may say of these; whatever else they have is refused.
const std::map<std::string, std::vector<Json>> CHOICES = {
    {"beta_schedule", {"linear", "scaled_linear"}},
    {"prediction_type", {"epsilon", "v_prediction"}},
    {"timestep_spacing", {"leading", "trailing", "linspace"}},
    {"rescale_betas_zero_snr", {false, true}},
    {"use_karras_sigmas", {false, true}},
    {"sigma_schedule", {"karras", "exponential"}},
    {"algorithm_type", {"dpmsolver++", "deis"}},
    {"clip_sample", {false}},
    {"disable_corrector", {Json::array()}},
    {"final_sigmas_type", {"zero"}},
    {"interpolation_type", {"linear"}},
    {"predict_x0", {true}},
    {"solver_order", {2}},
    {"solver_type", {"midpoint", "logrho", "bh1", "bh2"}},
    {"thresholding", {false}},
    {"timestep_type", {"discrete"}},
    {"trained_betas", {}},
    {"use_beta_sigmas", {false}},
    {"use_dynamic_shifting", {false}},
    {"use_exponential_sigmas", {false}},
    {"use_flow_sigmas", {false}},
    {"use_lu_lambdas", {false}},
    {"variance_type", {"fixed_small", "fixed_large"}},
};
const std::set<std::string> EDM = {"sigma_min", "sigma_max", "sigma_data", "sigma_schedule", "rho"};
const std::set<std::string> OTHERS = {
    "beta_start", "beta_end", "num_train_timesteps", "steps_offset", "original_inference_steps",
    "timestep_scaling", "clip_sample_range", "dynamic_thresholding_ratio", "euler_at_final",
    "flow_shift", "lower_order_final", "sample_max_value", "set_alpha_to_one", "skip_prk_steps",
    "time_shift_type"};
constexpr int64_t MOST_TIMESTEPS = 1'000'000;
constexpr double LEAST_SIGNAL = 1.0 / (1 << 24);  // diffusers' instead of none
constexpr double RHO = 7;

bool is_edm(const Json& config) {
  return config.value("_class_name", "").compare(0, 3, "EDM") == 0;
}

bool is_known(const std::string& name, const Json& value, bool edm) {
  const auto choices = CHOICES.find(name);
  if (choices != CHOICES.end()) {
    const std::vector<Json>& values = choices->second;
    return std::find(values.begin(), values.end(), value) != values.end();
  }
  return name.compare(0, 1, "_") == 0 || value == false || OTHERS.count(name) > 0 ||
         (edm && EDM.count(name) > 0);
}

void refuse_odd(const Json& config, const std::string& path) {
  std::string odd;
  for (const auto& [name, value] : config.items()) {
    if (is_known(name, value, is_edm(config))) continue;
    odd += (odd.empty() ? "" : ", ") + name + " " + value.dump();
  }
  if (!odd.empty()) throw Refusal(path + ": " + odd + " is not supported; use the torch pipeline");
}

// As numpy's.
std::vector<double> linspace(double start, double end, int64_t count) {
  if (count == 1) return {start};
  std::vector<double> values;
  const double step = (end - start) / static_cast<double>(count - 1);
  for (int64_t i = 0; i + 1 < count; ++i) values.push_back(start + static_cast<double>(i) * step);
  values.push_back(end);
  return values;
}

// Noise levels from high to low (Karras et al. 2206.00364, equation 5), then 0.
std::vector<double> karras(double high, double low, int steps, double rho) {
  std::vector<double> levels = linspace(std::pow(high, 1 / rho), std::pow(low, 1 / rho), steps);
  for (double& level : levels) level = std::pow(level, rho);
  levels.push_back(0);
  return levels;
}

std::vector<double> edm_levels(const Json& config, int steps) {
  const double high = config.at("sigma_max"), low = config.at("sigma_min");
  if (config.value("sigma_schedule", "karras") == "karras") {
    return karras(high, low, steps, config.at("rho"));
  }
  std::vector<double> levels = linspace(std::log(low), std::log(high), steps);
  for (double& level : levels) level = std::exp(level);
  std::reverse(levels.begin(), levels.end());
  levels.push_back(0);
  return levels;
}

std::vector<double> training_sigmas(const Json& config, const std::string& path) {
  const double start = config.at("beta_start"), end = config.at("beta_end");
  const int64_t count = config.at("num_train_timesteps");
  const bool is_scaled = config.at("beta_schedule") == "scaled_linear";
  if (!(0 < start && start <= end && end < 1 && 1 < count && count <= MOST_TIMESTEPS)) {
    throw Refusal(path + ": betas " + config["beta_start"].dump() + " to " +
                  config["beta_end"].dump() + " in " + std::to_string(count) +
                  " steps; export the model again");
  }
  config.at("timestep_spacing");
  const double offset = config.value("steps_offset", 0.0);
  if (!(0 <= offset && offset < static_cast<double>(count))) {
    throw Refusal(path + ": steps_offset " + config["steps_offset"].dump() +
                  "; export the model again");
  }
  std::vector<double> products;
  double product = 1;
  for (const double beta : is_scaled ? linspace(std::sqrt(start), std::sqrt(end), count)
                                     : linspace(start, end, count)) {
    product *= 1 - (is_scaled ? beta * beta : beta);
    products.push_back(product);
  }
  if (config.value("rescale_betas_zero_snr", false)) {  // Lin et al. 2305.08891, algorithm 1
    const double first = std::sqrt(products.front()), least = std::sqrt(products.back());
    for (double& each : products) {
      each = std::pow((std::sqrt(each) - least) * first / (first - least), 2);
    }
    products.back() = LEAST_SIGNAL;
  }
  for (double& each : products) each = std::sqrt((1 - each) / each);
  return products;
}

void check_sigmas(const Json& config, const std::string& path) {
  const double low = config.at("sigma_min"), high = config.at("sigma_max");
  const double data = config.at("sigma_data"), rho = config.at("rho");
  if (0 < low && low < high && data > 0 && rho > 0) return;
  throw Refusal(path + ": sigmas " + config["sigma_min"].dump() + " to " +
                config["sigma_max"].dump() + ", sigma_data " + config["sigma_data"].dump() +
                ", rho " + config["rho"].dump() + "; export the model again");
}

template <class Function>
Tensor each(const Tensor& x, const Function& function) {
  auto [made, values] = make_tensor<float>(Dtype::f32, x.shape);
  for (size_t i = 0; i < x.count(); ++i) values[i] = function(x.as<float>()[i]);
  return made;
}

}  // namespace

Schedule Schedule::read(const std::string& path) {
  Json config =
      parse_json(map_file(path, "exported folder").text(), path, "export the model again");
  try {
    for (auto each = config.begin(); each != config.end();) {
      each = each->is_null() ? config.erase(each) : std::next(each);  // the default
    }
    refuse_odd(config, path);
    const bool edm = is_edm(config);
    const bool predicts_velocity = config.value("prediction_type", "epsilon") == "v_prediction";
    const double deviation = edm ? config.at("sigma_data").get<double>() : 1;
    Schedule schedule{config, path, {}, predicts_velocity, deviation};
    if (edm) {
      check_sigmas(config, path);
    } else {
      schedule.sigmas = training_sigmas(config, path);
    }
    return schedule;
  } catch (const Json::exception& error) {
    throw Refusal(path + ": no configuration of a scheduler known here (" + one_line(error.what()) +
                  "); export the model again");
  }
}

void Schedule::check_euler() const {
  const std::string kind = config.value("_class_name", "EulerDiscreteScheduler");
  if (kind == "EulerDiscreteScheduler" || kind == "EDMEulerScheduler") return;
  throw Refusal(source + ": " + kind + " is no sampler of this runner; give --sampler euler to " +
                "draw with Euler's method nevertheless");
}

Levels Schedule::levels(int steps) const {
  if (sigmas.empty()) {
    const double high = config["sigma_max"];
    Levels found{{}, edm_levels(config, steps), std::sqrt(high * high + 1)};
    for (int i = 0; i < steps; ++i) found.times.push_back(std::log(found.sigmas[i]) / 4);
    return found;
  }
  Levels found{timesteps(steps), {}, 0};
  for (const double time : found.times) found.sigmas.push_back(sigma_at(time));
  if (config.value("use_karras_sigmas", false)) {
    found.sigmas = karras(found.sigmas.front(), found.sigmas.back(), steps, RHO);
    for (int i = 0; i < steps; ++i) found.times[i] = time_at(found.sigmas[i]);
  } else {
    found.sigmas.push_back(0);
  }
  const double first = found.sigmas.front();
  found.start = config["timestep_spacing"] == "leading" ? std::sqrt(first * first + 1) : first;
  return found;
}

std::vector<double> Schedule::timesteps(int steps) const {
  const auto count = static_cast<int>(sigmas.size());
  if (steps < 1 || steps >= count) {
    throw Refusal("--steps " + std::to_string(steps) + ": must be 1 to " +
                  std::to_string(count - 1));
  }
  const std::string spacing = config["timestep_spacing"];
  const double offset = config.value("steps_offset", 0.0);
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

double Schedule::time_at(double sigma) const {
  const auto above = std::upper_bound(sigmas.begin(), sigmas.end(), sigma);
  if (above == sigmas.begin()) return 0;
  const auto below = static_cast<double>(above - sigmas.begin() - 1);
  if (above == sigmas.end()) return below;
  return below + std::log(sigma / above[-1]) / std::log(above[0] / above[-1]);
}

Tensor euler(const Schedule& schedule, const Tensor& noise, int steps, const RunUnet& model) {
  const Levels levels = schedule.levels(steps);
  const auto start = static_cast<float>(levels.start);
  Tensor x = each(noise, [=](float unit) { return unit * start; });
  const double data = schedule.deviation;
  const bool is_plain = !schedule.predicts_velocity && !schedule.sigmas.empty();
  for (size_t step = 0; step < levels.times.size(); ++step) {
    const double sigma = levels.sigmas[step], next = levels.sigmas[step + 1];
    const auto scale = static_cast<float>(std::sqrt(sigma * sigma + data * data));
    const Tensor sample = each(x, [=](float given) { return given / scale; });
    const Tensor output = model(sample, static_cast<float>(levels.times[step]));
    const auto size = static_cast<float>(sigma);
    const float skip = static_cast<float>(data * data) / (scale * scale);
    const float out =
        static_cast<float>(schedule.predicts_velocity ? -sigma * data : sigma * data) / scale;
    const auto change = static_cast<float>((next - sigma) / sigma);
    auto [moved, values] = make_tensor<float>(Dtype::f32, x.shape);
    for (size_t i = 0; i < x.count(); ++i) {
      const float given = x.as<float>()[i], found = output.as<float>()[i];
      const float denoised = is_plain ? given - size * found : skip * given + out * found;
      values[i] = given + (given - denoised) * change;
    }
    x = moved;
  }
  return x;
}

}  // namespace lorarar
