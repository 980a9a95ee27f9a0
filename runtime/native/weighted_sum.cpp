#include <vector>

#include "loops.hpp"
#include "merger.hpp"
#include "numeric.hpp"
#include "pair.hpp"
#include "parallel.hpp"

namespace lorarar {

namespace {

// One LoRA's share in a merged layer.
struct Share {
  const Layer* layer;
  const float* m;        // of its columns; null for 1
  float of_up, of_down;  // what the factors are multiplied by
};

std::vector<Share> shares_of(const std::string& name, const Pair& pair, const Coefficients& m,
                             Dtype dtype) {
  std::vector<Share> shares;
  const auto found = m.find(name);
  for (int side = 0; side < 2; ++side) {
    const Layer* layer = pair.layer(side, name);
    if (layer == nullptr) continue;
    const float* columns =
        found == m.end() ? nullptr : found->second.as<float>() + side * layer->in();
    const bool is_kept = layer->scale == 1 && layer->up.dtype == dtype;
    const auto [of_up, of_down] = is_kept
                                      ? std::make_pair(1.0f, 1.0f)
                                      : split_scale(layer->scale, layer->up, layer->down, dtype);
    shares.push_back({layer, columns, of_up, of_down});
  }
  return shares;
}

// up = [up_c | up_s], down = [down_c * m_c ; down_s * m_s].
Layer merged_layer(const std::string& name, const Pair& pair, const Coefficients& m) {
  pair.check_shapes(name);
  const Layer& first =
      *(pair.layer(0, name) != nullptr ? pair.layer(0, name) : pair.layer(1, name));
  const Dtype dtype = first.up.dtype;
  const std::vector<Share> shares = shares_of(name, pair, m, dtype);
  int64_t rank = 0;
  for (const Share& share : shares) rank += share.layer->rank();
  auto up_shape = first.up.shape, down_shape = first.down.shape;
  up_shape[1] = down_shape[0] = rank;
  auto [up, up_memory] = make_tensor<std::byte>(dtype, up_shape);
  auto [down, down_memory] = make_tensor<std::byte>(dtype, down_shape);
  const auto out = static_cast<size_t>(first.out());
  bool fits = true;
  for (const Share& share : shares) {
    const Layer& layer = *share.layer;
    const auto own = static_cast<size_t>(layer.rank());
    const size_t columns = layer.down.count() / own, kernel = columns / layer.in();
    const Dtype from = layer.up.dtype;
    fits &= loops().scale(from, dtype,
                          {layer.up.data.get(), up_memory, out, own, static_cast<size_t>(rank),
                           share.of_up, nullptr, 1});
    fits &= loops().scale(from, dtype,
                          {layer.down.data.get(), down_memory, own, columns, columns, share.of_down,
                           share.m, kernel});
    up_memory += own * size_of(dtype);
    down_memory += own * columns * size_of(dtype);
  }
  if (!fits) pair.refuse_weights(name, name_of(dtype));
  return {up, down, 1};
}

}  // namespace

std::map<std::string, Layer> weighted_sum(const Lora& content, const Lora& style,
                                          const Coefficients& m, int threads) {
  const Pair pair{{&content, &style}};
  const std::vector<std::string> names = pair.names();
  std::vector<Layer> found(names.size());
  side_by_side(names.size(), static_cast<size_t>(threads),
               [&](size_t, size_t i) { found[i] = merged_layer(names[i], pair, m); });
  std::map<std::string, Layer> layers;
  for (size_t i = 0; i < names.size(); ++i) layers[names[i]] = found[i];
  return layers;
}

}  // namespace lorarar
