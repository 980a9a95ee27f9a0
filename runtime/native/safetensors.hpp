// Safetensors: mapped and checked on the way in, atomic on the way out.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "files.hpp"
#include "tensor.hpp"

namespace lorarar {

using Tensors = std::map<std::string, Tensor>;
using Metadata = std::map<std::string, std::string>;

struct Safetensors {
  Tensors tensors;
  Metadata metadata;
  std::string source;

  // Throws Refusal if it is missing, or unless dtype and shape are these (-1: any).
  const Tensor& get(const std::string& name, Dtype dtype, const std::vector<int64_t>& shape) const;
};

// Reads the header only; tensors are views of the mapped file.
//
// Throws Refusal for everything that lorarar/files.py refuses, and for keys that occur twice.
Safetensors read_safetensors(const std::string& path);
Safetensors parse_safetensors(const Mapped& file, const std::string& source);

// Returns the SHA-256 of the file; tensors of wide dtypes come first, which keeps alignment.
std::string write_safetensors(const std::string& path, const Tensors& tensors,
                              const Metadata& metadata);

// The same digest without writing.
std::string hash_safetensors(const Tensors& tensors, const Metadata& metadata);

}  // namespace lorarar
