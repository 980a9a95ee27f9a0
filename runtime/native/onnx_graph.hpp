// What the runner needs of ONNX files beyond running them: metadata, and a graph of several alone.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace lorarar {

// A value of the model's metadata. Throws Refusal if `model` is no ONNX file.
std::optional<std::string> onnx_metadata(std::string_view model, const std::string& key,
                                         const std::string& source);

// The model with one output, and only the nodes, weights and inputs that it needs: ONNX Runtime's
// C API cannot tell a session to leave out the others.
//
// Throws Refusal if there is no such output.
std::string onnx_with_output(std::string_view model, const std::string& output,
                             const std::string& source);

}  // namespace lorarar
