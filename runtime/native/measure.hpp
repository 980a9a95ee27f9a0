// What is measured, and how: times of rounds, memory, the processor.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "json.hpp"

namespace lorarar {

// Milliseconds of one piece of work: its first call, then `rounds` of it.
struct Row {
  std::string name;
  double first_ms = 0;
  std::vector<double> ms;

  Json json() const;
};

// No-ops around each round but the first call, by which benchmarks/devices counts instructions.
#if defined(__aarch64__)
inline void begin_region() { asm volatile("hint #0x60" ::: "memory"); }
inline void end_region() { asm volatile("hint #0x61" ::: "memory"); }
#else
inline void begin_region() {}
inline void end_region() {}
#endif

class Stopwatch {
 public:
  double ms() const {
    return std::chrono::duration<double, std::milli>(Clock::now() - started_).count();
  }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point started_ = Clock::now();
};

template <class Work>
Row measure(const std::string& name, int rounds, const Work& work) {
  Row row{name, 0, {}};
  Stopwatch first;
  work();
  row.first_ms = first.ms();
  row.ms.reserve(rounds);
  for (int i = 0; i < rounds; ++i) {
    begin_region();
    Stopwatch watch;
    work();
    const double ms = watch.ms();
    end_region();
    row.ms.push_back(ms);
  }
  return row;
}

double peak_megabytes();  // resident, of the process so far
Json cpu();               // {"model": ..., "features": ...}

}  // namespace lorarar
