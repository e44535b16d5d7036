// Loops over planes in vector instructions that not every processor has.
#pragma once

#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)
#define WEAKSEG_HAS_WIDE_VECTORS 1
#define WEAKSEG_WIDE __attribute__((target("avx2")))
#else
#define WEAKSEG_HAS_WIDE_VECTORS 0
#endif
#if defined(__GNUC__) || defined(__clang__)
#define WEAKSEG_INLINED __attribute__((always_inline))  // what a loop calls must be compiled for its processor
#else
#define WEAKSEG_INLINED
#endif

namespace weakseg {

#if WEAKSEG_HAS_WIDE_VECTORS

template <class Work>
WEAKSEG_WIDE void with_wide_vectors(const Work& work) {
  work();
}

// Calls work(), which is marked WEAKSEG_INLINED, compiled for this processor. The results are the same to the last bit:
// the wide instructions are those of the narrow ones, without fused multiplications.
template <class Work>
void vectorised(const Work& work) {
  __builtin_cpu_supports("avx2") ? with_wide_vectors(work) : work();
}

#else

template <class Work>
void vectorised(const Work& work) {
  work();
}

#endif

}  // namespace weakseg
