#include "pair.hpp"

#include <set>

#include "numeric.hpp"
#include "refusal.hpp"

namespace lorarar {

void Pair::check_shapes(const std::string& name) const {
  const Layer *one = layer(0, name), *other = layer(1, name);
  if (one == nullptr || other == nullptr) return;
  const auto inner = [](const Layer& layer) {
    return std::vector<int64_t>(layer.down.shape.begin() + 1, layer.down.shape.end());
  };
  const bool is_alike = one->out() == other->out() && inner(*one) == inner(*other) &&
                        one->up.shape.size() == other->up.shape.size();
  if (is_alike) return;
  const auto size = [](const Layer& layer) {
    return std::to_string(layer.out()) + "x" + std::to_string(layer.in());
  };
  throw Refusal(sides[1]->source + ": layer '" + name + "' is " + size(*other) + ", but " +
                sides[0]->source + " has " + size(*one) +
                "; these LoRAs are for different base models");
}

void Pair::refuse_weights(const std::string& name, const std::string& dtype) const {
  for (const Lora* lora : sides) {
    const Layer* layer = lora->find(name);
    if (layer != nullptr && !(is_finite(layer->up) && is_finite(layer->down))) {
      throw Refusal(lora->source + ": layer '" + name +
                    "' has NaN or infinite weights; get it again");
    }
  }
  throw Refusal("layer '" + name + "' of " + sides[0]->source + " and " + sides[1]->source +
                " overflows " + dtype + "; use smaller weights");
}

std::vector<std::string> Pair::names() const {
  std::set<std::string> names;
  for (const Lora* lora : sides) {
    for (const auto& [name, layer] : lora->layers) names.insert(name);
  }
  return {names.begin(), names.end()};
}

}  // namespace lorarar
