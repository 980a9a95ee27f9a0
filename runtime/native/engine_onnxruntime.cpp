// ONNX Runtime by its C API, through the C++ header that comes with it.
#include <onnxruntime_cxx_api.h>

#include <map>

#include "engine.hpp"
#include "files.hpp"
#include "onnx_graph.hpp"
#include "refusal.hpp"

namespace lorarar {

const char* const ENGINE = "onnxruntime " ENGINE_VERSION;
const char* const ENGINE_FORMAT = "onnx";

namespace {

constexpr size_t LONGEST = 500;  // of what it says
const std::string FORWARD = "forward";

struct Kind {
  Dtype dtype;
  ONNXTensorElementDataType element;
};
constexpr Kind KINDS[] = {
    {Dtype::f32, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT},
    {Dtype::f16, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16},
    {Dtype::bf16, ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16},
    {Dtype::f64, ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE},
    {Dtype::i64, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64},
    {Dtype::i32, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32},
    {Dtype::i8, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8},
    {Dtype::u8, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8},
    {Dtype::boolean, ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL},
};

Ort::Env& environment() {
  static Ort::Env env(ORT_LOGGING_LEVEL_FATAL, "lorarar-run");  // a Refusal tells its errors
  return env;
}

Ort::SessionOptions options_for(int threads) {
  Ort::SessionOptions options;
  options.SetLogSeverityLevel(ORT_LOGGING_LEVEL_FATAL);
  options.SetIntraOpNumThreads(threads);
  options.SetInterOpNumThreads(1);
  return options;
}

std::string told(const Ort::Exception& error) {
  return one_line(error.what()).substr(0, LONGEST);
}

Ort::Value as_input(const Tensor& tensor) {
  static const Ort::MemoryInfo memory =
      Ort::MemoryInfo::CreateCpu(OrtDeviceAllocator, OrtMemTypeDefault);
  for (const Kind& kind : KINDS) {
    if (kind.dtype != tensor.dtype) continue;
    return Ort::Value::CreateTensor(memory, const_cast<std::byte*>(tensor.data.get()),
                                    tensor.bytes(), tensor.shape.data(), tensor.shape.size(),
                                    kind.element);
  }
  throw Refusal(std::string("ONNX Runtime takes no ") + name_of(tensor.dtype) + "; give F32");
}

// A view that keeps what it shows.
Tensor as_output(Ort::Value&& value, const std::string& path) {
  if (value.IsTensor()) {
    const auto about = value.GetTensorTypeAndShapeInfo();
    for (const Kind& kind : KINDS) {
      if (kind.element != about.GetElementType()) continue;
      const auto held = std::make_shared<Ort::Value>(std::move(value));
      const auto* data = static_cast<const std::byte*>(held->GetTensorRawData());
      return {kind.dtype, about.GetShape(), {held, data}};
    }
  }
  throw Refusal(path + ": gives numbers of an unknown kind; export it again");
}

}  // namespace

struct Program::State {
  std::string path;
  int threads;
  Mapped file;
  std::map<std::string, Ort::Session> sessions;  // by method; of graphs at their first use

  Ort::Session& session(const std::string& method, const std::vector<std::string>& outputs) {
    const auto found = sessions.find(method);
    if (found != sessions.end()) return found->second;
    if (outputs.size() != 1) throw Refusal(path + ": '" + method + "' has one output; ask for it");
    const std::string graph = onnx_with_output(file.text(), outputs.front(), path);
    Ort::Session made(environment(), graph.data(), graph.size(), options_for(threads));
    return sessions.emplace(method, std::move(made)).first->second;
  }
};

Program Program::open(const std::string& path, int threads) {
  Program program;
  program.state_.reset(new State{path, threads, map_file(path, ".onnx file"), {}});
  try {
    Ort::Session session(environment(), path.c_str(), options_for(threads));
    program.state_->sessions.emplace(FORWARD, std::move(session));
  } catch (const Ort::Exception& error) {
    throw Refusal(path + ": not a usable ONNX file, or too large for the memory here (" +
                  told(error) + "); export it again");
  }
  return program;
}

std::string Program::manifest() {
  const auto text = onnx_metadata(state_->file.text(), "manifest", state_->path);
  if (text) return *text;
  throw Refusal(state_->path + ": has no manifest of an exported hypernetwork; export it again");
}

std::vector<Tensor> Program::run(const std::string& method, const NamedTensors& inputs,
                                 const std::vector<std::string>& outputs) {
  const std::string prefix = method == FORWARD ? "" : method + ".";
  std::vector<std::string> names, wanted;
  std::vector<Ort::Value> values;
  for (const auto& [name, tensor] : inputs) {
    names.push_back(prefix + name);
    values.push_back(as_input(tensor));
  }
  for (const std::string& name : outputs) wanted.push_back(prefix + name);
  std::vector<const char*> given_names, wanted_names;
  for (const std::string& name : names) given_names.push_back(name.c_str());
  for (const std::string& name : wanted) wanted_names.push_back(name.c_str());
  try {
    Ort::RunOptions options;
    options.SetRunLogSeverityLevel(ORT_LOGGING_LEVEL_FATAL);
    std::vector<Ort::Value> found = state_->session(method, wanted)
                                        .Run(options, given_names.data(), values.data(),
                                             values.size(), wanted_names.data(), wanted.size());
    std::vector<Tensor> results;
    for (Ort::Value& value : found) results.push_back(as_output(std::move(value), state_->path));
    return results;
  } catch (const Ort::Exception& error) {
    throw Refusal(state_->path + ": '" + method + "' cannot be run (" + told(error) +
                  "); export it again");
  }
}

}  // namespace lorarar
