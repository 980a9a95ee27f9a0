// Runs ExecuTorch programs with the wheel's own libraries; see executorch_calls.py.
// Reads a line per program: its file, then each input as its dtype and shape ("float32:1x4x16x16").
// Prints each program's median milliseconds.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include <executorch/extension/data_loader/mmap_data_loader.h>
#include <executorch/extension/memory_allocator/malloc_memory_allocator.h>
#include <executorch/runtime/executor/method.h>
#include <executorch/runtime/executor/program.h>
#include <executorch/runtime/platform/runtime.h>

// The wheel has this class in its library, but not its header.
namespace executorch::extension::threadpool {
struct ThreadPool {
  bool _unsafe_reset_threadpool(uint32_t threads);
};
ThreadPool* get_threadpool();
}  // namespace executorch::extension::threadpool

using namespace executorch::runtime;
using executorch::aten::ScalarType;
using executorch::aten::Tensor;
using executorch::aten::TensorImpl;
using executorch::extension::MallocMemoryAllocator;
using executorch::extension::MmapDataLoader;

struct Input {
  std::vector<TensorImpl::SizesType> sizes;
  std::vector<TensorImpl::DimOrderType> order;
  std::vector<uint8_t> zeros;
  std::unique_ptr<TensorImpl> tensor;

  explicit Input(const std::string& word) {
    const auto colon = word.find(':');
    std::istringstream shape(word.substr(colon + 1));
    size_t count = 1;
    for (std::string size; std::getline(shape, size, 'x'); count *= sizes.back()) {
      order.push_back(sizes.size());
      sizes.push_back(std::atoi(size.c_str()));
    }
    zeros.resize(count * sizeof(int64_t));
    const auto type = word.substr(0, colon) == "int64" ? ScalarType::Long : ScalarType::Float;
    tensor = std::make_unique<TensorImpl>(
        type, sizes.size(), sizes.data(), zeros.data(), order.data());
  }
};

void check(Error error, const std::string& file) {
  if (error == Error::Ok) return;
  std::cerr << file << ": error " << static_cast<int>(error) << "\n";
  std::exit(1);
}

double median_milliseconds(const std::string& file, std::vector<Input>& inputs, int rounds) {
  auto loader = MmapDataLoader::from(file.c_str());
  check(loader.error(), file);
  auto program = Program::load(&loader.get());
  check(program.error(), file);
  auto meta = program->method_meta("forward");
  std::vector<std::vector<uint8_t>> buffers;
  for (size_t i = 0; i < meta->num_memory_planned_buffers(); ++i)
    buffers.emplace_back(meta->memory_planned_buffer_size(i).get());
  std::vector<Span<uint8_t>> spans;
  for (auto& buffer : buffers) spans.push_back({buffer.data(), buffer.size()});
  HierarchicalAllocator planned({spans.data(), spans.size()});
  MallocMemoryAllocator lasting, passing;
  MemoryManager memory(&lasting, &planned, &passing);
  auto method = program->load_method("forward", &memory);
  check(method.error(), file);

  std::vector<double> times;
  for (int round = 0; round < rounds; ++round) {
    const auto started = std::chrono::steady_clock::now();
    for (size_t i = 0; i < inputs.size(); ++i)
      check(method->set_input(EValue(Tensor(inputs[i].tensor.get())), i), file);
    check(method->execute(), file);
    const std::chrono::duration<double, std::milli> taken =
        std::chrono::steady_clock::now() - started;
    times.push_back(taken.count());
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

int main(int, char** arguments) {
  runtime_init();
  executorch::extension::threadpool::get_threadpool()->_unsafe_reset_threadpool(
      std::atoi(arguments[1]));
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string file;
    words >> file;
    std::vector<Input> inputs;
    for (std::string word; words >> word;) inputs.emplace_back(word);
    std::cout << median_milliseconds(file, inputs, std::atoi(arguments[2])) << "\n";
  }
}
