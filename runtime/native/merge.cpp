// `merge`: two LoRA files through an exported hypernetwork, to one merged file.
#include "commands.hpp"
#include "merger.hpp"
#include "refusal.hpp"
#include "save.hpp"

namespace lorarar {

namespace {

std::string name_in(const std::string& path) { return path.substr(path.rfind('/') + 1); }

Metadata describe(const std::map<std::string, Layer>& merged, const Arguments& arguments) {
  const std::string content = name_in(arguments.places[1]), style = name_in(arguments.places[2]);
  const std::string output = arguments.has("o") ? name_in(arguments.get("o")) : "merged";
  Metadata metadata = alphas_metadata(merged);
  metadata["modelspec.sai_model_spec"] = "1.0.0";
  metadata["modelspec.architecture"] = "stable-diffusion-xl-v1-base/lora";
  metadata["modelspec.implementation"] = "diffusers";
  metadata["modelspec.title"] = output.substr(0, output.rfind('.'));
  metadata["modelspec.merged_from"] = content + ", " + style;
  metadata["lorarar.method"] = "lorarar";
  metadata["lorarar.content"] = content;
  metadata["lorarar.style"] = style;
  return metadata;
}

Tensors named(const Coefficients& coefficients) {
  Tensors tensors;
  for (const auto& [layer, m] : coefficients) tensors[layer + ".m"] = m;
  return tensors;
}

}  // namespace

Report run_merge(const Arguments& arguments) {
  const std::string only = arguments.has("only") ? arguments.get("only") : "";
  if (!only.empty() && only != "coefficients" && only != "merge") {
    throw Refusal("--only " + only + ": unknown; use coefficients or merge");
  }
  const Lora content = read_lora(arguments.places[1]), style = read_lora(arguments.places[2]);
  Report report;
  const Stopwatch watch;
  const Merger merger = Merger::open(arguments.places[0], arguments.threads);
  report.load_ms = watch.ms();

  Coefficients m;
  if (only != "merge") {
    const std::string name = "coefficients, " + merger.form(content, style);
    report.rows.push_back(
        measure(name, arguments.rounds, [&] { m = merger.coefficients(content, style); }));
  }
  std::map<std::string, Layer> merged;
  if (only != "coefficients") {
    report.rows.push_back(measure("merge", arguments.rounds, [&] {
      merged.clear();  // its memory is used again
      m = merger.coefficients(content, style);
      merged = weighted_sum(content, style, m, arguments.threads);
    }));
  }
  const bool is_merged = !merged.empty();
  const Tensors tensors = is_merged ? lora_tensors(merged) : named(m);
  const Metadata metadata = is_merged ? describe(merged, arguments) : Metadata{};
  if (arguments.has("o")) {
    report.rows.push_back(measure("write", 1, [&] {
      report.sha256 = write_safetensors(arguments.get("o"), tensors, metadata);
    }));
  } else {
    report.sha256 = hash_safetensors(tensors, metadata);
  }
  return report;
}

}  // namespace lorarar
