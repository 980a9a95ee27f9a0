#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor.h>
#include <executorch/extension/threadpool/threadpool_guard.h>
#include <executorch/runtime/platform/platform.h>

#include <cstring>
#include <optional>

#include "engine.hpp"
#include "files.hpp"
#include "refusal.hpp"
#include "sha256.hpp"

namespace executorch::extension::threadpool {
// Of libexecutorch_threadpool, whose header the wheels leave out.
class ThreadPool {
 public:
  bool _unsafe_reset_threadpool(uint32_t threads);
};
ThreadPool* get_threadpool();
}  // namespace executorch::extension::threadpool

namespace lorarar {

namespace et = ::executorch;
using et::aten::ScalarType;
using et::extension::Module;
using et::extension::threadpool::NoThreadPoolGuard;
using et::runtime::EValue;

const char* const ENGINE = "executorch " ENGINE_VERSION;
const char* const ENGINE_FORMAT = "executorch";

struct Program::State {
  std::string path;
  int threads;
  Module module;
};

namespace {

constexpr size_t SEAL = 32;

struct Kind {
  Dtype dtype;
  ScalarType scalar;
};
constexpr Kind KINDS[] = {
    {Dtype::f32, ScalarType::Float},     {Dtype::f16, ScalarType::Half},
    {Dtype::bf16, ScalarType::BFloat16}, {Dtype::f64, ScalarType::Double},
    {Dtype::i64, ScalarType::Long},      {Dtype::i32, ScalarType::Int},
    {Dtype::i8, ScalarType::Char},       {Dtype::u8, ScalarType::Byte},
    {Dtype::boolean, ScalarType::Bool},
};

// What the engine says of its errors, which a Refusal tells in one line.
void say_nothing(et_timestamp_t, et_pal_log_level_t, const char*, const char*, size_t, const char*,
                 size_t) {}

// The digest that exports append (runtime/backends/executorch.py) catches damage, of which the
// engine aborts or computes with damaged weights.
void check_seal(const std::string& path) {
  const Mapped file = map_file(path, ".pte file");
  const size_t size = file.size < SEAL ? 0 : file.size - SEAL;
  Sha256 hash;
  hash.add(file.data.get(), size);
  const auto digest = hash.digest();
  if (file.size < SEAL || std::memcmp(digest.data(), file.data.get() + size, SEAL) != 0) {
    throw Refusal(path + ": not an exported ExecuTorch program, or damaged; export it again");
  }
}

// Once for the whole process: the engine says nothing, and its pool has as many threads.
void use_threads(int threads) {
  static const bool is_silent = et::runtime::register_pal(et::runtime::PalImpl::create(
      nullptr, nullptr, nullptr, nullptr, say_nothing, nullptr, nullptr, __FILE__));
  static int pool = 1;  // one thread needs none, see Program::run
  const bool is_new = threads > 1 && threads != pool;
  if (!is_silent ||
      (is_new && !et::extension::threadpool::get_threadpool()->_unsafe_reset_threadpool(threads))) {
    throw Refusal("ExecuTorch gives no " + std::to_string(threads) + " threads; use --threads 1");
  }
  if (is_new) pool = threads;
}

void check(et::runtime::Error error, const std::string& path, const std::string& what) {
  if (error == et::runtime::Error::Ok) return;
  throw Refusal(path + ": " + what + " (" + et::runtime::to_string(error) + "); export it again");
}

et::extension::TensorPtr as_input(const Tensor& tensor) {
  for (const Kind& kind : KINDS) {
    if (kind.dtype != tensor.dtype) continue;
    std::vector<et::aten::SizesType> sizes(tensor.shape.begin(), tensor.shape.end());
    return et::extension::from_blob(const_cast<std::byte*>(tensor.data.get()), sizes, kind.scalar);
  }
  throw Refusal(std::string("ExecuTorch takes no ") + name_of(tensor.dtype) + "; give F32");
}

Tensor as_output(const et::aten::Tensor& found, const std::string& path) {
  for (const Kind& kind : KINDS) {
    if (kind.scalar != found.scalar_type()) continue;
    auto [tensor, memory] = make_tensor<std::byte>(
        kind.dtype, std::vector<int64_t>(found.sizes().begin(), found.sizes().end()));
    std::memcpy(memory, found.const_data_ptr(), tensor.bytes());
    return tensor;
  }
  throw Refusal(path + ": gives numbers of an unknown kind; export it again");
}

}  // namespace

Program Program::open(const std::string& path, int threads) {
  use_threads(threads);
  check_seal(path);
  Program program;
  program.state_.reset(new State{path, threads, Module(path, Module::LoadMode::Mmap)});
  check(program.state_->module.load(et::runtime::Program::Verification::InternalConsistency), path,
        "not a usable .pte");
  return program;
}

std::string Program::manifest() {
  auto found = state_->module.execute("manifest");
  check(found.error(), state_->path, "has no manifest of an exported hypernetwork");
  if (found->size() != 1 || !found->front().isString()) {
    throw Refusal(state_->path + ": has no manifest of an exported hypernetwork; export it again");
  }
  return std::string(found->front().toString());
}

std::vector<Tensor> Program::run(const std::string& method, const NamedTensors& inputs,
                                 const std::vector<std::string>& outputs) {
  std::optional<NoThreadPoolGuard> single;  // of this thread
  if (state_->threads == 1) single.emplace();
  check(state_->module.load_method(method), state_->path, "'" + method + "' cannot be loaded");
  std::vector<et::extension::TensorPtr> kept;
  std::vector<EValue> values;
  for (const auto& [name, tensor] : inputs) {
    kept.push_back(as_input(tensor));
    values.emplace_back(kept.back());
  }
  auto found = state_->module.execute(method, values);
  if (!found.ok()) {
    std::string shapes;
    for (const auto& [name, tensor] : inputs) {
      if (shapes.size() < 200) shapes += (shapes.empty() ? "" : ", ") + shape_of(tensor);
    }
    throw Refusal(state_->path + ": '" + method + "' cannot take " + shapes + " (" +
                  et::runtime::to_string(found.error()) +
                  "); ranks and widths have a limit, use the onnxruntime backend");
  }
  if (found->size() != outputs.size()) {
    throw Refusal(state_->path + ": '" + method + "' gives " + std::to_string(found->size()) +
                  " tensors, not " + std::to_string(outputs.size()) + "; export it again");
  }
  std::vector<Tensor> results;
  for (const EValue& value : *found) results.push_back(as_output(value.toTensor(), state_->path));
  return results;
}

}  // namespace lorarar
