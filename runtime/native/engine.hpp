// An engine's program. One of engine_*.cpp defines it; CMake picks which.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tensor.hpp"

namespace lorarar {

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

class Program {
 public:
  // Maps the file; a .pte's seal is checked first. threads: 1 is truly one.
  //
  // Throws Refusal if it is missing, damaged, or no program of this engine.
  static Program open(const std::string& path, int threads);

  // A merger's manifest, JSON (lorarar/artefacts/merger.py). Throws Refusal if it has none.
  std::string manifest();

  // Runs a method on inputs in the program's own order, and returns the outputs of these names in
  // that order. ONNX files have the single method "forward", whose names are theirs; of any other
  // method, which is a graph of a merger, the names are "<method>.<name>" there.
  // An output of no elements has no data.
  //
  // Throws Refusal if the engine refuses the shapes. Not to be called by two threads at once.
  std::vector<Tensor> run(const std::string& method, const NamedTensors& inputs,
                          const std::vector<std::string>& outputs);

 private:
  struct State;
  std::shared_ptr<State> state_;
};

extern const char* const ENGINE;         // "executorch 1.5.1"
extern const char* const ENGINE_FORMAT;  // "executorch" or "onnx": of a folder exported for it

}  // namespace lorarar
