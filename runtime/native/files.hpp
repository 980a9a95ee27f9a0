// Files mapped for reading, and written whole or not at all.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace lorarar {

struct Mapped {
  std::shared_ptr<const std::byte> data;
  size_t size = 0;

  std::string_view text() const { return {reinterpret_cast<const char*>(data.get()), size}; }
};

// Throws Refusal if it is missing, a folder, or cannot be read; `kind` is what to name instead.
Mapped map_file(const std::string& path, const std::string& kind);

// Throws Refusal if something is at `path` and `force` is not given.
void refuse_existing(const std::string& path, bool force);

// Takes the bytes of a file that is being written.
using Put = std::function<void(const void* bytes, size_t size)>;

// Let `write` fill a temporary file beside `path`, sync it and rename it to `path`, replacing a
// regular file; returns the SHA-256 of what was written, in hexadecimal digits.
//
// Throws Refusal if it cannot be written; then `path` is as it was.
std::string write_atomically(const std::string& path, const std::function<void(const Put&)>& write);

}  // namespace lorarar
