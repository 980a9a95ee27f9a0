// Sixteen-bit floats, one at a time. Internal linkage: loops.cpp is compiled for several
// processors.
#pragma once

#include <cstdint>
#include <cstring>

namespace lorarar {

namespace {

[[maybe_unused]] inline float float_of(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

[[maybe_unused]] inline uint32_t bits_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

[[maybe_unused]] inline float widen_bf16(uint16_t bits) { return float_of(uint32_t{bits} << 16); }

// To nearest, ties to even.
[[maybe_unused]] inline uint16_t narrow_bf16(float value) {
  const uint32_t bits = bits_of(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>(bits >> 16 | 0x40);  // NaN
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

[[maybe_unused]] inline float widen_f16(uint16_t bits) {
  const uint32_t sign = uint32_t{bits & 0x8000u} << 16, rest = bits & 0x7fffu;
  if (rest >= 0x7c00) return float_of(sign | 0x7f800000 | rest << 13);  // infinite or NaN
  return float_of(sign | bits_of(float_of(rest << 13) * 0x1p112f));
}

// To nearest, ties to even; too large becomes infinite.
[[maybe_unused]] inline uint16_t narrow_f16(float value) {
  const uint32_t bits = bits_of(value), sign = bits >> 16 & 0x8000;
  const float size = float_of(bits & 0x7fffffff);
  if (size != size) return static_cast<uint16_t>(sign | 0x7e00);
  if (size >= 65520) return static_cast<uint16_t>(sign | 0x7c00);
  if (size < 0x1p-14f) {  // subnormal: the sum's last place is 2^-24
    return static_cast<uint16_t>(sign | (bits_of(size + 0.5f) - bits_of(0.5f)));
  }
  const uint32_t rebased = (bits & 0x7fffffff) - (112u << 23);
  return static_cast<uint16_t>(sign | (rebased + 0xfff + (rebased >> 13 & 1)) >> 13);
}

}  // namespace

}  // namespace lorarar
