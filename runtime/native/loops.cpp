// Compiled several times, LOOP being the name of the set of instructions. It must use nothing
// inline of other headers, of which the linker would keep any one copy for all.
#include "loops.hpp"

#include <cstring>

#if defined(__F16C__) || defined(__AVX512F__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#include "half.hpp"

namespace lorarar::LOOP {

namespace {

#if defined(__AVX512F__)
constexpr size_t WIDTH = 16;
#elif defined(__AVX2__)
constexpr size_t WIDTH = 8;
#else
constexpr size_t WIDTH = 4;
#endif
constexpr size_t BLOCK = 4;  // rows at a time, as sums go through memory once for all of them

using Floats = float __attribute__((vector_size(4 * WIDTH)));
using Ints = int32_t __attribute__((vector_size(4 * WIDTH)));
using Bytes = int8_t __attribute__((vector_size(WIDTH)));
using Shorts = uint16_t __attribute__((vector_size(2 * WIDTH)));

template <class V>
V load_as(const void* from) {
  V value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

// How each dtype is read and written: WIDTH elements, or one.
struct F32 {
  using Element = float;
  static constexpr float LIMIT = __builtin_inff();
  static Floats load(const float* at) { return load_as<Floats>(at); }
  static float load_one(const float* at) { return *at; }
  static void store(float* at, Floats value) { std::memcpy(at, &value, sizeof value); }
  static void store_one(float* at, float value) { *at = value; }
};

struct F16 {
  using Element = uint16_t;
  static constexpr float LIMIT = 65520;  // from here on it rounds to infinity
  static float load_one(const uint16_t* at) { return widen_f16(*at); }
  static void store_one(uint16_t* at, float value) { *at = narrow_f16(value); }
#if defined(__AVX512F__)
  static Floats load(const uint16_t* at) {
    return reinterpret_cast<Floats>(_mm512_cvtph_ps(load_as<__m256i>(at)));
  }
  static void store(uint16_t* at, Floats value) {
    const __m256i half =
        _mm512_cvtps_ph(reinterpret_cast<__m512>(value), _MM_FROUND_TO_NEAREST_INT);
    std::memcpy(at, &half, sizeof half);
  }
#elif defined(__F16C__)
  static Floats load(const uint16_t* at) {
    return reinterpret_cast<Floats>(_mm256_cvtph_ps(load_as<__m128i>(at)));
  }
  static void store(uint16_t* at, Floats value) {
    const __m128i half =
        _mm256_cvtps_ph(reinterpret_cast<__m256>(value), _MM_FROUND_TO_NEAREST_INT);
    std::memcpy(at, &half, sizeof half);
  }
#elif defined(__ARM_NEON)
  static Floats load(const uint16_t* at) {
    return reinterpret_cast<Floats>(vcvt_f32_f16(load_as<float16x4_t>(at)));
  }
  static void store(uint16_t* at, Floats value) {
    const float16x4_t half = vcvt_f16_f32(reinterpret_cast<float32x4_t>(value));
    std::memcpy(at, &half, sizeof half);
  }
#else
  static Floats load(const uint16_t* at) {
    Floats value;
    for (size_t i = 0; i < WIDTH; ++i) value[i] = widen_f16(at[i]);
    return value;
  }
  static void store(uint16_t* at, Floats value) {
    for (size_t i = 0; i < WIDTH; ++i) at[i] = narrow_f16(value[i]);
  }
#endif
};

struct BF16 {
  using Element = uint16_t;
  static constexpr float LIMIT = 0x1.ffp127f;  // from here on it rounds to infinity
  static float load_one(const uint16_t* at) { return widen_bf16(*at); }
  static void store_one(uint16_t* at, float value) { *at = narrow_bf16(value); }
  static Floats load(const uint16_t* at) {
    const Ints bits = __builtin_convertvector(load_as<Shorts>(at), Ints) << 16;
    return reinterpret_cast<Floats>(bits);
  }
  static void store(uint16_t* at, Floats value) {
    for (size_t i = 0; i < WIDTH; ++i) at[i] = narrow_bf16(value[i]);
  }
};

struct I8 {
  using Element = int8_t;
  static float load_one(const int8_t* at) { return *at; }
  static Floats load(const int8_t* at) {
#if defined(__AVX512F__)
    return reinterpret_cast<Floats>(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load_as<__m128i>(at))));
#elif defined(__AVX2__)
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(at));
    return reinterpret_cast<Floats>(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)));
#elif defined(__ARM_NEON)
    const int16x8_t shorts = vmovl_s8(vcreate_s8(load_as<uint32_t>(at)));
    return reinterpret_cast<Floats>(vcvtq_f32_s32(vmovl_s16(vget_low_s16(shorts))));
#else
    return __builtin_convertvector(__builtin_convertvector(load_as<Bytes>(at), Ints), Floats);
#endif
  }
};

// `ROWS` rows from `first` on, added to m.
template <size_t ROWS, class C, class S>
void add_rows(const Side& content, const Side& style, const ReadOut& by, size_t hidden,
              size_t columns, size_t first, float* m) {
  const typename C::Element* one[ROWS];
  const typename S::Element* other[ROWS];
  float one_scale[ROWS], other_scale[ROWS], bias[ROWS], weight[2][ROWS];
  for (size_t k = 0; k < ROWS; ++k) {
    const size_t row = first + k;
    one[k] = reinterpret_cast<const typename C::Element*>(content.values) + row * content.stride;
    other[k] = reinterpret_cast<const typename S::Element*>(style.values) + row * style.stride;
    one_scale[k] = content.scales != nullptr ? content.scales[row] : 1;
    other_scale[k] = style.scales != nullptr ? style.scales[row] : 1;
    bias[k] = by.input_bias[row];
    weight[0][k] = by.weight[row];
    weight[1][k] = by.weight[hidden + row];
  }
  size_t j = 0;
  for (; j + WIDTH <= columns; j += WIDTH) {
    Floats m_content = F32::load(m + j), m_style = F32::load(m + columns + j);
    for (size_t k = 0; k < ROWS; ++k) {
      const Floats h =
          C::load(one[k] + j) * one_scale[k] + (S::load(other[k] + j) * other_scale[k] + bias[k]);
      const Floats active = h <= 0 ? Floats{} : h;  // NaN stays NaN
      m_content += active * weight[0][k];
      m_style += active * weight[1][k];
    }
    F32::store(m + j, m_content);
    F32::store(m + columns + j, m_style);
  }
  for (; j < columns; ++j) {
    for (size_t k = 0; k < ROWS; ++k) {
      const float h = C::load_one(one[k] + j) * one_scale[k] +
                      (S::load_one(other[k] + j) * other_scale[k] + bias[k]);
      const float active = h <= 0 ? 0 : h;
      m[j] += active * weight[0][k];
      m[columns + j] += active * weight[1][k];
    }
  }
}

template <class C, class S>
void add_all(const Side& content, const Side& style, const ReadOut& by, size_t hidden,
             size_t columns, float* m) {
  size_t row = 0;
  for (; row + BLOCK <= hidden; row += BLOCK) {
    add_rows<BLOCK, C, S>(content, style, by, hidden, columns, row, m);
  }
  for (; row < hidden; ++row) add_rows<1, C, S>(content, style, by, hidden, columns, row, m);
}

template <class C>
void add_to(const Side& content, const Side& style, const ReadOut& by, size_t hidden,
            size_t columns, float* m) {
  if (style.dtype == Dtype::f32) add_all<C, F32>(content, style, by, hidden, columns, m);
  else if (style.dtype == Dtype::f16) add_all<C, F16>(content, style, by, hidden, columns, m);
  else add_all<C, I8>(content, style, by, hidden, columns, m);
}

void read_out(const Side& content, const Side& style, const ReadOut& by, size_t hidden,
              size_t columns, float* m) {
  for (size_t j = 0; j < columns; ++j) m[j] = by.bias[0], m[columns + j] = by.bias[1];
  if (content.dtype == Dtype::f32) add_to<F32>(content, style, by, hidden, columns, m);
  else if (content.dtype == Dtype::f16) add_to<F16>(content, style, by, hidden, columns, m);
  else add_to<I8>(content, style, by, hidden, columns, m);
}

template <class From, class To>
bool scale_all(const Scaling& scaling) {
  const auto* from = reinterpret_cast<const typename From::Element*>(scaling.from);
  auto* to = reinterpret_cast<typename To::Element*>(scaling.to);
  const float* by = scaling.column_factors;
  const bool by_vector = by == nullptr || scaling.per_column == 1;
  const size_t wide = by_vector ? scaling.columns / WIDTH * WIDTH : 0;
  Ints vector_fits = Ints{} - 1;
  bool fits = true;
  for (size_t row = 0; row < scaling.rows; ++row) {
    for (size_t j = 0; j < wide; j += WIDTH) {
      Floats value = From::load(from + j) * scaling.factor;
      if (by != nullptr) value *= F32::load(by + j);
      vector_fits &= (value < To::LIMIT) & (value > -To::LIMIT);
      To::store(to + j, value);
    }
    for (size_t j = wide; j < scaling.columns; ++j) {
      float value = From::load_one(from + j) * scaling.factor;
      if (by != nullptr) value *= by[j / scaling.per_column];
      fits = fits && value < To::LIMIT && value > -To::LIMIT;
      To::store_one(to + j, value);
    }
    from += scaling.columns;
    to += scaling.stride;
  }
  for (size_t i = 0; i < WIDTH; ++i) fits = fits && vector_fits[i] != 0;
  return fits;
}

template <class From>
bool scale_from(Dtype to, const Scaling& scaling) {
  if (to == Dtype::f32) return scale_all<From, F32>(scaling);
  return to == Dtype::f16 ? scale_all<From, F16>(scaling) : scale_all<From, BF16>(scaling);
}

bool scale(Dtype from, Dtype to, const Scaling& scaling) {
  if (from == Dtype::f32) return scale_from<F32>(to, scaling);
  return from == Dtype::f16 ? scale_from<F16>(to, scaling) : scale_from<BF16>(to, scaling);
}

}  // namespace

extern const Loops LOOPS;
const Loops LOOPS = {read_out, scale};

}  // namespace lorarar::LOOP
