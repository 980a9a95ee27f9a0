#include "onnx_graph.hpp"

#include <cstdint>
#include <set>
#include <vector>

#include "refusal.hpp"

namespace lorarar {

namespace {

// Numbers of fields in onnx.proto.
constexpr uint64_t MODEL_GRAPH = 7, MODEL_METADATA = 14;
constexpr uint64_t GRAPH_NODE = 1, GRAPH_INITIALIZER = 5, GRAPH_INPUT = 11, GRAPH_OUTPUT = 12;
constexpr uint64_t NODE_INPUT = 1, NODE_OUTPUT = 2, TENSOR_NAME = 8, VALUE_NAME = 1;
constexpr uint64_t ENTRY_KEY = 1, ENTRY_VALUE = 2;

// One of a protobuf message: `whole` with its number and length, `content` without.
struct Field {
  uint64_t number;
  std::string_view whole, content;
};

// Reads protobuf's wire format (protobuf.dev/programming-guides/encoding).
class Reader {
 public:
  Reader(std::string_view message, const std::string& source)
      : message_(message), source_(source) {}

  std::vector<Field> fields() {
    std::vector<Field> fields;
    while (at_ < message_.size()) {
      const size_t start = at_;
      const uint64_t tag = varint();
      const uint64_t size = size_of_kind(tag & 7);
      if (size > message_.size() - at_) refuse();
      fields.push_back({tag >> 3, message_.substr(start, at_ + size - start),
                        message_.substr(at_, size)});
      at_ += size;
    }
    return fields;
  }

 private:
  uint64_t size_of_kind(uint64_t kind) {
    if (kind == 0) return varint(), 0;
    if (kind == 1) return 8;
    if (kind == 5) return 4;
    if (kind != 2) refuse();
    return varint();
  }

  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64 && at_ < message_.size(); shift += 7) {
      const auto byte = static_cast<uint8_t>(message_[at_++]);
      value |= uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) return value;
    }
    refuse();
  }

  [[noreturn]] void refuse() const {
    throw Refusal(source_ + ": not a usable ONNX file; export it again");
  }

  std::string_view message_;
  const std::string& source_;
  size_t at_ = 0;
};

std::vector<Field> fields_of(std::string_view message, const std::string& source) {
  return Reader(message, source).fields();
}

std::vector<std::string> texts_of(std::string_view message, uint64_t number,
                                  const std::string& source) {
  std::vector<std::string> texts;
  for (const Field& field : fields_of(message, source)) {
    if (field.number == number) texts.emplace_back(field.content);
  }
  return texts;
}

std::string name_of(const Field& field, uint64_t number, const std::string& source) {
  const std::vector<std::string> names = texts_of(field.content, number, source);
  return names.empty() ? "" : names.front();
}

std::string with_length(uint64_t number, const std::string& content) {
  std::string message;
  for (uint64_t value : {number << 3 | 2, uint64_t{content.size()}}) {
    for (; value >= 0x80; value >>= 7) message += static_cast<char>(value | 0x80);
    message += static_cast<char>(value);
  }
  return message + content;
}

std::string graph_with_output(std::string_view graph, const std::string& output,
                              const std::string& source) {
  const std::vector<Field> fields = fields_of(graph, source);
  std::set<std::string> needed = {output};
  std::set<const Field*> nodes;
  for (auto field = fields.rbegin(); field != fields.rend(); ++field) {  // sorted: users come last
    if (field->number != GRAPH_NODE) continue;
    bool is_needed = false;
    for (const std::string& name : texts_of(field->content, NODE_OUTPUT, source)) {
      is_needed |= needed.count(name) > 0;
    }
    if (!is_needed) continue;
    nodes.insert(&*field);
    for (const std::string& name : texts_of(field->content, NODE_INPUT, source)) {
      needed.insert(name);
    }
  }
  if (nodes.empty()) throw Refusal(source + ": has no graph '" + output + "'; export it again");
  std::string kept;
  for (const Field& field : fields) {
    bool is_kept = true;
    if (field.number == GRAPH_NODE) {
      is_kept = nodes.count(&field) > 0;
    } else if (field.number == GRAPH_OUTPUT) {
      is_kept = name_of(field, VALUE_NAME, source) == output;
    } else if (field.number == GRAPH_INPUT || field.number == GRAPH_INITIALIZER) {
      const uint64_t name = field.number == GRAPH_INPUT ? VALUE_NAME : TENSOR_NAME;
      is_kept = needed.count(name_of(field, name, source)) > 0;
    }
    if (is_kept) kept += field.whole;
  }
  return kept;
}

}  // namespace

std::optional<std::string> onnx_metadata(std::string_view model, const std::string& key,
                                         const std::string& source) {
  for (const Field& field : fields_of(model, source)) {
    if (field.number != MODEL_METADATA || name_of(field, ENTRY_KEY, source) != key) continue;
    return name_of(field, ENTRY_VALUE, source);
  }
  return std::nullopt;
}

std::string onnx_with_output(std::string_view model, const std::string& output,
                             const std::string& source) {
  std::string kept;
  for (const Field& field : fields_of(model, source)) {
    if (field.number != MODEL_GRAPH) kept += field.whole;
    else kept += with_length(MODEL_GRAPH, graph_with_output(field.content, output, source));
  }
  return kept;
}

}  // namespace lorarar
