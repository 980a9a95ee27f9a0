// `graph`: any method of a program on given inputs, checked against expected outputs.
#include <algorithm>
#include <cmath>

#include "commands.hpp"
#include "engine.hpp"
#include "numeric.hpp"
#include "refusal.hpp"
#include "safetensors.hpp"

namespace lorarar {

namespace {

// The names of a file's tensors in the order that its metadata "order" lists, or else by name, as
// programs take inputs by place.
std::vector<std::string> order_of(const Safetensors& file) {
  std::vector<std::string> names;
  const auto listed = file.metadata.find("order");
  if (listed != file.metadata.end()) {
    const Json order = parse_json(listed->second, file.source + ": its metadata 'order'",
                                  "list its tensors there");
    for (const Json& name : order) {
      if (name.is_string() && file.tensors.count(name)) names.push_back(name);
    }
  } else {
    for (const auto& [name, tensor] : file.tensors) names.push_back(name);
  }
  if (names.size() != file.tensors.size()) {
    throw Refusal(file.source +
                  ": its metadata 'order' does not list its tensors; list them there");
  }
  return names;
}

// max |found - wanted| / max |wanted|; infinite where they differ in form or are not finite.
double relative_error(const Tensor& found, const Tensor& wanted) {
  if (found.dtype != wanted.dtype || found.shape != wanted.shape) return INFINITY;
  const Tensor one = as_dtype(found, Dtype::f32), other = as_dtype(wanted, Dtype::f32);
  double largest = 0, error = 0;
  for (size_t i = 0; i < one.count(); ++i) {
    const double difference = std::abs(double{one.as<float>()[i]} - other.as<float>()[i]);
    if (!std::isfinite(difference)) return INFINITY;
    error = std::max(error, difference);
    largest = std::max(largest, std::abs(double{other.as<float>()[i]}));
  }
  return error == 0 ? 0 : error / largest;
}

}  // namespace

Report run_graph(const Arguments& arguments) {
  Report report;
  const Stopwatch watch;
  Program program = Program::open(arguments.places[0], arguments.threads);
  report.load_ms = watch.ms();
  const Safetensors given = read_safetensors(arguments.get("given"));
  const Safetensors expected = read_safetensors(arguments.get("expect"));
  NamedTensors inputs;
  for (const std::string& name : order_of(given)) inputs.emplace_back(name, given.tensors.at(name));
  const std::vector<std::string> names = order_of(expected);
  const std::string& method = arguments.get("method");
  std::vector<Tensor> outputs;
  report.rows.push_back(
      measure(method, arguments.rounds, [&] { outputs = program.run(method, inputs, names); }));
  double error = 0;
  for (size_t i = 0; i < names.size(); ++i) {
    error = std::max(error, relative_error(outputs[i], expected.tensors.at(names[i])));
  }
  report.error = error;
  report.failed = !(error <= arguments.number("tolerance", 1e-4));
  return report;
}

}  // namespace lorarar
