#include "png.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

#include "files.hpp"

namespace lorarar {

namespace {

constexpr size_t LARGEST_BLOCK = 0xffff;

std::array<uint32_t, 256> make_crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = value & 1 ? 0xedb88320 ^ value >> 1 : value >> 1;
    table[i] = value;
  }
  return table;
}

std::string big_endian(uint32_t value) {
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(value >> shift);
  return bytes;
}

std::string chunk(const std::string& name, const std::string& content) {
  static const std::array<uint32_t, 256> TABLE = make_crc_table();
  const std::string body = name + content;
  uint32_t crc = 0xffffffff;
  for (const char c : body) crc = TABLE[(crc ^ static_cast<uint8_t>(c)) & 0xff] ^ crc >> 8;
  return big_endian(static_cast<uint32_t>(content.size())) + body + big_endian(~crc);
}

// A zlib stream of stored blocks.
std::string stored(const std::string& text) {
  std::string stream = "\x78\x01";
  for (size_t start = 0; start < text.size(); start += LARGEST_BLOCK) {
    const size_t size = std::min(LARGEST_BLOCK, text.size() - start);
    stream += start + size == text.size() ? '\x01' : '\x00';
    for (const size_t count : {size, ~size}) {
      stream += static_cast<char>(count);
      stream += static_cast<char>(count >> 8);
    }
    stream.append(text, start, size);
  }
  uint32_t one = 1, other = 0;  // Adler-32
  for (const char c : text) {
    one = (one + static_cast<uint8_t>(c)) % 65521;
    other = (other + one) % 65521;
  }
  return stream + big_endian(other << 16 | one);
}

// Rows of red, green and blue bytes, each behind its filter, 0 for none.
std::string rows_of(const Tensor& picture) {
  const auto height = static_cast<size_t>(picture.shape[2]);
  const auto width = static_cast<size_t>(picture.shape[3]);
  std::string rows;
  rows.reserve(height * (1 + width * 3));
  for (size_t y = 0; y < height; ++y) {
    rows += '\0';
    for (size_t x = 0; x < width; ++x) {
      for (size_t color = 0; color < 3; ++color) {
        const float value = picture.as<float>()[(color * height + y) * width + x] / 2 + 0.5f;
        // fmax takes NaN for 0
        rows += static_cast<char>(std::nearbyint(std::fmin(std::fmax(value, 0.0f), 1.0f) * 255));
      }
    }
  }
  return rows;
}

}  // namespace

std::string write_png(const std::string& path, const Tensor& picture) {
  const std::string kind("\x08\x02\x00\x00\x00", 5);  // 8 bits of red, green and blue
  const std::string size = big_endian(static_cast<uint32_t>(picture.shape[3])) +
                           big_endian(static_cast<uint32_t>(picture.shape[2]));
  const std::string file = "\x89PNG\r\n\x1a\n" + chunk("IHDR", size + kind) +
                           chunk("IDAT", stored(rows_of(picture))) + chunk("IEND", "");
  return write_atomically(path, [&](const Put& put) { put(file.data(), file.size()); });
}

}  // namespace lorarar
