// Bad input: one line that names file, tensor and remedy, printed by main, exit code 2.
#pragma once

#include <stdexcept>
#include <string>

namespace lorarar {

struct Refusal : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// What a file or a library says, on one line and short.
std::string one_line(const std::string& text);

}  // namespace lorarar
