// Loops over planes in vector instructions that not every processor has.
#pragma once

#include "support/intrinsics.hpp"

namespace weakseg {

#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)

template <class Work>
__attribute__((target("avx2"))) void with_wide_vectors(const Work& work) {
  work();
}

// Calls work(), which has to be WEAKSEG_INLINED, compiled for this processor. The results do not depend on it, to the
// last bit: AVX2 computes with each element as narrower instructions do, and fused multiply-add is another extension,
// which is left off because it rounds differently.
template <class Work>
void vectorized(const Work& work) {
  __builtin_cpu_supports("avx2") ? with_wide_vectors(work) : work();
}

#else

template <class Work>
void vectorized(const Work& work) {
  work();
}

#endif

}  // namespace weakseg
