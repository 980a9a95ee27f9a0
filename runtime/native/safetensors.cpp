#include "safetensors.hpp"

#include <algorithm>
#include <cstring>
#include <tuple>

#include "json.hpp"
#include "refusal.hpp"
#include "sha256.hpp"

namespace lorarar {

namespace {

constexpr uint64_t LARGEST_HEADER = 100'000'000;
constexpr size_t MOST_AXES = 64;
constexpr Dtype DTYPES[] = {Dtype::f64, Dtype::f32, Dtype::f16,    Dtype::bf16, Dtype::i64,
                            Dtype::i32, Dtype::i16, Dtype::i8,     Dtype::u64,  Dtype::u32,
                            Dtype::u16, Dtype::u8,  Dtype::boolean};

struct Entry {
  uint64_t begin = 0, end = 0;
  std::string name;
  Dtype dtype;
  std::vector<int64_t> shape;
};

class Reader {
 public:
  Reader(const Mapped& file, const std::string& source) : file_(file), source_(source) {}

  Safetensors read() {
    const std::string_view header = find_header();
    const Json json =
        parse_json(header, source_ + ": not a valid safetensors file", "get it again");
    if (!json.is_object()) refuse("its header is no object");
    Safetensors result;
    result.source = source_;
    std::vector<Entry> entries;
    for (const auto& [name, value] : json.items()) {
      if (name == "__metadata__") result.metadata = read_metadata(value);
      else entries.push_back(read_entry(name, value));
    }
    const size_t start = 8 + header.size();
    check_offsets(entries, file_.size - start);
    const Mapped data = aligned(start);
    for (const Entry& entry : entries) {
      std::shared_ptr<const std::byte> view(data.data, data.data.get() + entry.begin);
      result.tensors[entry.name] = {entry.dtype, entry.shape, view};
    }
    return result;
  }

 private:
  [[noreturn]] void refuse(const std::string& reason) const {
    throw Refusal(source_ + ": not a valid safetensors file (" + one_line(reason) +
                  "); get it again");
  }

  std::string_view find_header() const {
    const std::string_view text = file_.text();
    if (text.substr(0, 4) == "PK\x03\x04" || text.substr(0, 1) == "\x80") {
      uint64_t size = 0;
      if (text.size() >= 8) std::memcpy(&size, text.data(), 8);
      // A header of 128 bytes begins like a pickle of old.
      if (text.size() < 8 || size > text.size() - 8) {
        throw Refusal(source_ +
                      ": not a valid safetensors file but a pickle (torch.save), which may run "
                      "code when it is read; get it as .safetensors");
      }
    }
    if (text.size() < 8) refuse("it ends within the header's length");
    uint64_t size = 0;
    std::memcpy(&size, text.data(), 8);  // little-endian, as all machines that this runs on
    if (size > LARGEST_HEADER) refuse("its header is too large");
    if (size > text.size() - 8) refuse("it ends within the header");
    return text.substr(8, size);
  }

  Metadata read_metadata(const Json& value) const {
    Metadata metadata;
    if (value.is_null()) return metadata;
    if (!value.is_object()) refuse("its metadata is no object");
    for (const auto& [key, text] : value.items()) {
      if (!text.is_string()) refuse("its metadata '" + key + "' is no text");
      metadata[key] = text.get<std::string>();
    }
    return metadata;
  }

  Entry read_entry(const std::string& name, const Json& value) const {
    const bool whole = value.is_object() && value.contains("dtype") && value.contains("shape") &&
                       value.contains("data_offsets") && value["dtype"].is_string() &&
                       value["shape"].is_array() && value["data_offsets"].is_array() &&
                       value["data_offsets"].size() == 2;
    if (!whole) refuse("tensor '" + name + "' has no dtype, shape and data_offsets");
    Entry entry;
    entry.name = name;
    entry.dtype = read_dtype(name, value["dtype"].get<std::string>());
    entry.begin = natural(name, value["data_offsets"][0]);
    entry.end = natural(name, value["data_offsets"][1]);
    if (value["shape"].size() > MOST_AXES) refuse("tensor '" + name + "' has too many axes");
    int64_t positive = size_of(entry.dtype);  // of the axes that are not 0, which must fit, too
    bool empty = false;
    for (const Json& size : value["shape"]) {
      const uint64_t axis = natural(name, size);
      if (axis > INT64_MAX) refuse("tensor '" + name + "' has an impossible shape");
      entry.shape.push_back(static_cast<int64_t>(axis));
      if (axis == 0) empty = true;
      else if (__builtin_mul_overflow(positive, entry.shape.back(), &positive)) {
        refuse("tensor '" + name + "' has an impossible shape");
      }
    }
    const uint64_t bytes = empty ? 0 : static_cast<uint64_t>(positive);
    if (entry.end < entry.begin || entry.end - entry.begin != bytes) {
      refuse("tensor '" + name + "' has another size than its shape");
    }
    return entry;
  }

  Dtype read_dtype(const std::string& name, const std::string& code) const {
    for (const Dtype dtype : DTYPES) {
      if (code == name_of(dtype)) return dtype;
    }
    throw Refusal(source_ + ": tensor '" + one_line(name) + "' has dtype " + one_line(code) +
                  "; save it as F32, F16 or BF16");
  }

  uint64_t natural(const std::string& name, const Json& value) const {
    if (!value.is_number_unsigned()) refuse("tensor '" + name + "' has sizes that are none");
    return value.get<uint64_t>();
  }

  // Tensors follow one another from the first byte to the last, without holes or overlaps.
  void check_offsets(std::vector<Entry>& entries, size_t size) const {
    std::sort(entries.begin(), entries.end(), [](const Entry& one, const Entry& other) {
      return std::tie(one.begin, one.end) < std::tie(other.begin, other.end);
    });
    uint64_t at = 0;
    for (const Entry& entry : entries) {
      if (entry.begin != at) refuse("tensor '" + entry.name + "' begins where no other ends");
      at = entry.end;
    }
    if (at != size) refuse(at < size ? "bytes follow its tensors" : "it ends within its tensors");
  }

  // The tensors' bytes where they are, or a copy where the header's length is no multiple of 8, as
  // older writers left it.
  Mapped aligned(size_t start) const {
    const size_t size = file_.size - start;
    if (start % 8 == 0) return {{file_.data, file_.data.get() + start}, size};
    auto copy = allocate(size);
    std::memcpy(copy.get(), file_.data.get() + start, size);
    return {copy, size};
  }

  const Mapped& file_;
  const std::string& source_;
};

}  // namespace

const Tensor& Safetensors::get(const std::string& name, Dtype dtype,
                               const std::vector<int64_t>& shape) const {
  const auto found = tensors.find(name);
  if (found == tensors.end())
    throw Refusal(source + ": has no tensor '" + name + "'; make it again");
  const Tensor& tensor = found->second;
  if (!fits(tensor, dtype, shape)) {
    throw Refusal(source + ": tensor '" + name + "' is " + shape_of(tensor) + " " +
                  name_of(tensor.dtype) + ", but " + shape_of({dtype, shape, nullptr}) + " " +
                  name_of(dtype) + " is needed; make it again");
  }
  return tensor;
}

Safetensors read_safetensors(const std::string& path) {
  return parse_safetensors(map_file(path, ".safetensors file"), path);
}

Safetensors parse_safetensors(const Mapped& file, const std::string& source) {
  return Reader(file, source).read();
}

// Gives a file's bytes to `put`, tensors of wide dtypes first.
static void dump(const Tensors& tensors, const Metadata& metadata, const Put& put) {
  std::vector<std::pair<std::string, Tensor>> ordered(tensors.begin(), tensors.end());
  std::stable_sort(ordered.begin(), ordered.end(), [](const auto& one, const auto& other) {
    return size_of(one.second.dtype) > size_of(other.second.dtype);
  });
  Json header = Json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  size_t at = 0;
  for (const auto& [name, tensor] : ordered) {
    header[name] = {{"dtype", name_of(tensor.dtype)},
                    {"shape", tensor.shape},
                    {"data_offsets", {at, at + tensor.bytes()}}};
    at += tensor.bytes();
  }
  // File names that are no UTF-8, which may be in the metadata, would make the file unreadable.
  std::string text = header.dump(-1, ' ', false, Json::error_handler_t::replace);
  text.append(-text.size() % 8, ' ');
  const uint64_t size = text.size();
  put(&size, sizeof size);
  put(text.data(), text.size());
  for (const auto& [name, tensor] : ordered) put(tensor.data.get(), tensor.bytes());
}

std::string write_safetensors(const std::string& path, const Tensors& tensors,
                              const Metadata& metadata) {
  return write_atomically(path, [&](const Put& put) { dump(tensors, metadata, put); });
}

std::string hash_safetensors(const Tensors& tensors, const Metadata& metadata) {
  Sha256 hash;
  dump(tensors, metadata, [&](const void* bytes, size_t size) { hash.add(bytes, size); });
  return hash.hex();
}

}  // namespace lorarar
