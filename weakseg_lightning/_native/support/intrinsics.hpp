// What compilers offer beyond the standard, and what stands in for it elsewhere.
#pragma once

#if defined(__GNUC__) || defined(__clang__)
#define WEAKSEG_INLINED __attribute__((always_inline))  // what a loop calls has to be compiled for the loop's processor
#else
#define WEAKSEG_INLINED
#endif

namespace weakseg {

// Asks for memory ahead of its use.
WEAKSEG_INLINED inline void prefetch(const void* address) {
#if defined(__GNUC__) || defined(__clang__)
  __builtin_prefetch(address);
#else
  static_cast<void>(address);
#endif
}

// The least element of a nonempty set of small numbers, one bit for each.
WEAKSEG_INLINED inline int lowest_bit(unsigned set) {
#if defined(__GNUC__) || defined(__clang__)
  return __builtin_ctz(set);
#else
  int bit = 0;
  while ((set >> bit & 1U) == 0) ++bit;
  return bit;
#endif
}

}  // namespace weakseg
