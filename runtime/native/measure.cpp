#include "measure.hpp"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>

#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace lorarar {

namespace {

// The value behind the first line of a file of /proc that begins with `key`; empty without one.
std::string value_of(const char* path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(':');
    if (colon == std::string::npos || line.compare(0, key.size(), key) != 0) continue;
    const size_t start = line.find_first_not_of(" \t", colon + 1);
    return start == std::string::npos ? "" : line.substr(start);
  }
  return "";
}

// Those that matter for our sums, of all that the processor has.
std::string features() {
#if defined(__aarch64__)
  const unsigned long first = getauxval(AT_HWCAP), second = getauxval(AT_HWCAP2);
  std::string found = "neon";
  if (first & HWCAP_ASIMDHP) found += " fp16";
  if (first & HWCAP_ASIMDDP) found += " dotprod";
  if (first & HWCAP_SVE) found += " sve";
  if (second & HWCAP2_I8MM) found += " i8mm";
  if (second & HWCAP2_BF16) found += " bf16";
  return found;
#else
  std::istringstream flags(value_of("/proc/cpuinfo", "flags"));
  std::string found;
  for (std::string flag; flags >> flag;) {
    const bool matters = flag == "avx2" || flag == "fma" || flag == "f16c" ||
                         flag.rfind("avx512", 0) == 0 || flag.rfind("amx", 0) == 0 ||
                         flag == "avx_vnni";
    if (matters) found += (found.empty() ? "" : " ") + flag;
  }
  return found;
#endif
}

// Of sorted values, the smallest that a `share` of them does not exceed.
double quantile(const std::vector<double>& sorted, double share) {
  const auto rank = static_cast<size_t>(std::ceil(share * static_cast<double>(sorted.size())));
  return sorted[std::max<size_t>(rank, 1) - 1];
}

}  // namespace

Json Row::json() const {
  std::vector<double> sorted = ms;
  std::sort(sorted.begin(), sorted.end());
  const size_t half = sorted.size() / 2;
  const double median =
      sorted.size() % 2 == 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
  return {{"name", name},         {"rounds", ms.size()},
          {"first_ms", first_ms}, {"min_ms", sorted.front()},
          {"median_ms", median},  {"p95_ms", quantile(sorted, 0.95)}};
}

double peak_megabytes() {
  const std::string kilobytes = value_of("/proc/self/status", "VmHWM");
  return std::strtod(kilobytes.c_str(), nullptr) * 1024 / 1e6;
}

Json cpu() {
  const char* info = "/proc/cpuinfo";
  std::string model = value_of(info, "model name");
  if (model.empty()) model = value_of(info, "Hardware");
  if (model.empty()) model = value_of(info, "CPU part");
  return {{"model", model}, {"features", features()}};
}

}  // namespace lorarar
