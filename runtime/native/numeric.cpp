#include "numeric.hpp"

#include <algorithm>
#include <cmath>

#include "loops.hpp"
#include "refusal.hpp"

namespace lorarar {

namespace {

bool is_float(Dtype dtype) {
  return dtype == Dtype::f32 || dtype == Dtype::f16 || dtype == Dtype::bf16;
}

bool convert(const Tensor& tensor, Dtype dtype, std::byte* to) {
  const size_t count = tensor.count();
  return loops().scale(tensor.dtype, dtype,
                       {tensor.data.get(), to, 1, count, count, 1, nullptr, 1});
}

}  // namespace

Tensor as_dtype(const Tensor& tensor, Dtype dtype) {
  if (tensor.dtype == dtype) return tensor;
  if (tensor.dtype == Dtype::i8 && is_float(dtype)) {
    auto [wide, values] = make_tensor<float>(Dtype::f32, tensor.shape);
    std::copy_n(tensor.as<int8_t>(), tensor.count(), values);
    return as_dtype(wide, dtype);
  }
  if (!is_float(tensor.dtype) || !is_float(dtype)) {
    throw Refusal(std::string("no conversion from ") + name_of(tensor.dtype) + " to " +
                  name_of(dtype) + "; save the tensors as F32");
  }
  auto [made, memory] = make_tensor<std::byte>(dtype, tensor.shape);
  convert(tensor, dtype, memory);
  return made;
}

bool is_finite(const Tensor& tensor) {
  const Tensor wide = as_dtype(tensor, Dtype::f32);
  const float* values = wide.as<float>();
  return std::all_of(values, values + wide.count(), [](float x) { return std::isfinite(x); });
}

float largest_magnitude(const Tensor& tensor) {
  const Tensor wide = as_dtype(tensor, Dtype::f32);
  float largest = 0;
  for (size_t i = 0; i < wide.count(); ++i) {
    largest = std::max(largest, std::abs(wide.as<float>()[i]));
  }
  return largest;
}

std::pair<float, float> split_scale(double scale, const Tensor& up, const Tensor& down,
                                    Dtype dtype) {
  const auto all_on_up = std::make_pair(static_cast<float>(scale), 1.0f);
  if (dtype != Dtype::f16 || scale == 0) return all_on_up;
  const double of_up = largest_magnitude(up), of_down = largest_magnitude(down);
  if (!(of_up > 0 && of_down > 0) || std::isinf(of_up) || std::isinf(of_down)) return all_on_up;
  const double exponent = std::nearbyint(std::log2(of_up * std::abs(scale) / of_down) / 2);
  return {static_cast<float>(scale / std::exp2(exponent)), static_cast<float>(std::exp2(exponent))};
}

}  // namespace lorarar
