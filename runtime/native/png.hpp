// Pictures as PNG files, not compressed (RFC 2083, RFC 1950).
#pragma once

#include <string>

#include "tensor.hpp"

namespace lorarar {

// picture: (1, 3, height, width) f32 from -1 to 1, clipped. Returns the SHA-256 of the file.
//
// Throws Refusal if it cannot be written.
std::string write_png(const std::string& path, const Tensor& picture);

}  // namespace lorarar
