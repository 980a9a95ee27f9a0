// Layers side by side.
#pragma once

#include <algorithm>
#include <cstddef>
#include <exception>
#include <thread>
#include <vector>

namespace lorarar {

// Calls work(worker, i) for each i below `count`; each of `workers` threads takes every n-th.
// Throws what the first of the failed ones threw.
template <class Work>
void side_by_side(size_t count, size_t workers, const Work& work) {
  workers = std::max<size_t>(1, std::min(workers, count));
  std::vector<std::exception_ptr> failures(workers);
  const auto share = [&](size_t worker) {
    try {
      for (size_t i = worker; i < count; i += workers) work(worker, i);
    } catch (...) {
      failures[worker] = std::current_exception();
    }
  };
  std::vector<std::thread> threads;
  for (size_t worker = 1; worker < workers; ++worker) threads.emplace_back(share, worker);
  share(0);
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& failure : failures) {
    if (failure) std::rethrow_exception(failure);
  }
}

}  // namespace lorarar
