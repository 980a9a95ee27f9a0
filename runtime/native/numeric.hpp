// Between f32, in which everything is computed, and what files hold.
#pragma once

#include <utility>

#include "tensor.hpp"

namespace lorarar {

// Of f32, f16, bf16 and i8 to f32, f16 or bf16; itself if it is of the dtype already. What is too
// large becomes infinite.
Tensor as_dtype(const Tensor& tensor, Dtype dtype);

bool is_finite(const Tensor& tensor);           // of f32, f16 or bf16
float largest_magnitude(const Tensor& tensor);  // the same; NaN counts for nothing

// Factors for up and down that make up `scale`, so that f16 keeps both in its range
// (lorarar/numeric.py).
std::pair<float, float> split_scale(double scale, const Tensor& up, const Tensor& down,
                                    Dtype dtype);

}  // namespace lorarar
