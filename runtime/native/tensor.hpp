// Typed, shaped, shared memory: of a mapped file or of its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace lorarar {

enum class Dtype { f64, f32, f16, bf16, i64, i32, i16, i8, u64, u32, u16, u8, boolean };

size_t size_of(Dtype dtype);
const char* name_of(Dtype dtype);  // as safetensors has it: "F32"

struct Tensor {
  Dtype dtype = Dtype::f32;
  std::vector<int64_t> shape;
  std::shared_ptr<const std::byte> data;

  size_t count() const;  // of elements
  size_t bytes() const { return count() * size_of(dtype); }
  template <class T>
  const T* as() const {
    return reinterpret_cast<const T*>(data.get());
  }
};

std::string shape_of(const Tensor& tensor);                                       // "1280x64"
bool fits(const Tensor& tensor, Dtype dtype, const std::vector<int64_t>& shape);  // -1: any

// Memory to be filled, aligned for any vector; not initialised.
std::shared_ptr<std::byte> allocate(size_t bytes);

// A tensor and where to write it.
template <class T>
std::pair<Tensor, T*> make_tensor(Dtype dtype, std::vector<int64_t> shape) {
  Tensor tensor{dtype, std::move(shape), nullptr};
  auto memory = allocate(tensor.bytes());
  tensor.data = memory;
  return {tensor, reinterpret_cast<T*>(memory.get())};
}

Tensor zeros(Dtype dtype, std::vector<int64_t> shape);

}  // namespace lorarar
