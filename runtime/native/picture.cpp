// `picture` and `step`: an exported folder at work.
#include "commands.hpp"
#include "pipeline.hpp"
#include "png.hpp"
#include "refusal.hpp"

namespace lorarar {

namespace {

constexpr int MOST_STEPS = 1000;
constexpr double GUIDANCE = 5;

bool has_pair(const Arguments& arguments) {
  if (arguments.places.size() == 2) {
    throw Refusal(arguments.places[1] + ": a lone LoRA; name a content LoRA and a style LoRA");
  }
  return arguments.places.size() == 3;
}

Pipeline open_pipeline(const Arguments& arguments, Report& report) {
  const Stopwatch watch;
  Pipeline pipeline = Pipeline::open(arguments.places[0], arguments.threads);
  report.load_ms = watch.ms();
  return pipeline;
}

}  // namespace

Report run_picture(const Arguments& arguments) {
  const double steps = arguments.number("steps", 20);
  if (!(steps >= 1 && steps <= MOST_STEPS && steps == static_cast<int>(steps))) {
    throw Refusal("--steps " + arguments.get("steps") + ": give a whole number from 1 to 1000");
  }
  const auto guidance = static_cast<float>(arguments.number("guidance", GUIDANCE));
  const bool is_pair = has_pair(arguments);
  const bool is_told = arguments.has("sampler");
  if (is_told && arguments.get("sampler") != "euler") {
    throw Refusal("--sampler " + arguments.get("sampler") + ": is not in this runner; give euler");
  }
  Report report;
  Pipeline pipeline = open_pipeline(arguments, report);
  if (!is_told) pipeline.schedule().check_euler();
  const Given given = pipeline.read_given(arguments.get("given"));
  const Slots slots = is_pair ? pipeline.pair(arguments.places[1], arguments.places[2])
                              : empty_slots(pipeline.exported());
  Tensor latents, picture;
  report.rows.push_back(measure("picture", arguments.rounds, [&] {
    const std::vector<Text> texts = pipeline.encode(given, guidance);
    latents = pipeline.draw(texts, slots, given.noise, static_cast<int>(steps), guidance);
    picture = pipeline.decode(latents);
  }));
  if (arguments.has("latents")) {
    write_safetensors(arguments.get("latents"), {{"latents", latents}}, {});
  }
  report.sha256 = write_png(arguments.get("o"), picture);
  return report;
}

Report run_step(const Arguments& arguments) {
  constexpr float time = 500;  // amid the timesteps
  const bool is_pair = has_pair(arguments);
  Report report;
  Pipeline pipeline = open_pipeline(arguments, report);
  const Given given = pipeline.read_given(arguments.get("given"));
  const auto add = [&](const std::string& name, const auto& work) {
    report.rows.push_back(measure(name, arguments.rounds, work));
  };
  std::vector<Text> texts;
  Slots slots = empty_slots(pipeline.exported());
  const auto step = [&] { pipeline.step(texts, slots, given.noise, time, GUIDANCE); };
  add("text encoders", [&] { texts = pipeline.encode(given, GUIDANCE); });
  add("step", step);
  if (is_pair) {
    slots = pipeline.pair(arguments.places[1], arguments.places[2]);
    add("step with pair", step);
    add("swap", [&] { slots = pipeline.pair(arguments.places[1], arguments.places[2]); });
  }
  add("vae", [&] { pipeline.decode(given.noise); });
  return report;
}

}  // namespace lorarar
