#include "loops.hpp"

namespace lorarar {

namespace plain {
extern const Loops LOOPS;
}

#if defined(__x86_64__)

namespace avx2 {
extern const Loops LOOPS;
}
namespace avx512 {
extern const Loops LOOPS;
}

const Loops& loops() {
  if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq")) {
    return avx512::LOOPS;
  }
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                        __builtin_cpu_supports("f16c");
  return has_avx2 ? avx2::LOOPS : plain::LOOPS;
}

#else

const Loops& loops() { return plain::LOOPS; }

#endif

}  // namespace lorarar
