// The loops that must be fast, compiled once for each set of instructions that they can be for.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor.hpp"

namespace lorarar {

// One LoRA's features (hidden, columns) as they are stored: f32, f16, or i8 with a scale per row.
// A LoRA that lacks the layer has one row of zeros for all: stride 0.
struct Side {
  Dtype dtype;
  const std::byte* values;
  const float* scales;  // of i8
  size_t stride;        // from row to row, in elements
};

// weight (2, hidden), bias (2), input_bias (hidden): `ReadOut` of lorarar/hypernet.py.
struct ReadOut {
  const float* weight;
  const float* bias;
  const float* input_bias;
};

// A matrix `from` (rows, columns) without gaps, into rows that are `stride` elements apart.
struct Scaling {
  const std::byte* from;
  std::byte* to;
  size_t rows, columns, stride;
  float factor;
  const float* column_factors;  // (columns / per_column); null for 1
  size_t per_column;            // elements that a column has: 1, or a kernel's size
};

struct Loops {
  // m (2, columns) = weight @ relu(content + style + input_bias) + bias, without a widened copy.
  void (*read_out)(const Side& content, const Side& style, const ReadOut& by, size_t hidden,
                   size_t columns, float* m);

  // Multiplies in f32 and rounds, to nearest; returns whether all that comes out is finite.
  // Both dtypes are f32, f16 or bf16.
  bool (*scale)(Dtype from, Dtype to, const Scaling& scaling);
};

const Loops& loops();  // the fastest ones that this processor has the instructions for

}  // namespace lorarar
