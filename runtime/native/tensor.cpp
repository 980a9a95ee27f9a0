#include "tensor.hpp"

#include <cstdlib>
#include <cstring>
#include <new>

namespace lorarar {

namespace {
constexpr size_t ALIGNMENT = 64;
}

size_t size_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::f64:
    case Dtype::i64:
    case Dtype::u64:
      return 8;
    case Dtype::f32:
    case Dtype::i32:
    case Dtype::u32:
      return 4;
    case Dtype::f16:
    case Dtype::bf16:
    case Dtype::i16:
    case Dtype::u16:
      return 2;
    case Dtype::i8:
    case Dtype::u8:
    case Dtype::boolean:
      break;
  }
  return 1;
}

const char* name_of(Dtype dtype) {
  static constexpr const char* NAMES[] = {"F64", "F32", "F16", "BF16", "I64", "I32", "I16",
                                          "I8",  "U64", "U32", "U16",  "U8",  "BOOL"};
  return NAMES[static_cast<size_t>(dtype)];
}

size_t Tensor::count() const {
  size_t count = 1;
  for (const int64_t size : shape) count *= static_cast<size_t>(size);
  return count;
}

std::string shape_of(const Tensor& tensor) {
  std::string text;
  for (const int64_t size : tensor.shape) text += (text.empty() ? "" : "x") + std::to_string(size);
  return text.empty() ? "a scalar" : text;
}

bool fits(const Tensor& tensor, Dtype dtype, const std::vector<int64_t>& shape) {
  bool does = tensor.dtype == dtype && tensor.shape.size() == shape.size();
  for (size_t axis = 0; does && axis < shape.size(); ++axis) {
    does = shape[axis] == -1 || shape[axis] == tensor.shape[axis];
  }
  return does;
}

std::shared_ptr<std::byte> allocate(size_t bytes) {
  const size_t whole = (bytes + ALIGNMENT) / ALIGNMENT * ALIGNMENT;
  auto* memory = static_cast<std::byte*>(std::aligned_alloc(ALIGNMENT, whole));
  if (memory == nullptr) throw std::bad_alloc();
  return {memory, std::free};
}

Tensor zeros(Dtype dtype, std::vector<int64_t> shape) {
  auto [tensor, memory] = make_tensor<std::byte>(dtype, std::move(shape));
  std::memset(memory, 0, tensor.bytes());
  return tensor;
}

}  // namespace lorarar
