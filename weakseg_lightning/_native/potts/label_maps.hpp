// Label maps in bytes: classes, and kVoid.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "support/labels.hpp"
#include "support/wide_vectors.hpp"

namespace weakseg {

// Converts a map to bytes. Returns whether it holds nothing but the classes 0 to `last` and kVoid. Both questions,
// whether the values fit into bytes and whether the bytes are classes, are asked of a chunk at a time without a branch.
template <class Integer>
bool read_labels(const Integer* labels, std::size_t count, std::uint8_t last, std::uint8_t* bytes) {
  std::uint8_t strange = 0;
  Integer high = 0;
  vectorized([&]() WEAKSEG_INLINED {
    constexpr std::size_t kChunk = 1024;
    for (std::size_t first = 0; first < count; first += kChunk) {
      const std::size_t end = std::min(count, first + kChunk);
      Integer others = 0;
      for (std::size_t i = first; i < end; ++i) {
        bytes[i] = static_cast<std::uint8_t>(labels[i]);
        others |= labels[i];
      }
      high |= others;
      std::uint8_t wrong = 0;
      for (std::size_t i = first; i < end; ++i) {
        wrong |= static_cast<std::uint8_t>((bytes[i] > last) & (bytes[i] != kVoid));
      }
      strange |= wrong;
    }
  });
  return strange == 0 && (high & ~static_cast<Integer>(255)) == 0;
}

// Sets present[label] to 1 for the labels of the valid pixels, except kVoid.
inline void find_labels(const std::uint8_t* labels, const std::uint8_t* valid, std::size_t count,
                        std::uint8_t* present) {
  const auto note = [&](std::size_t i) {
    if (labels[i] != kVoid && valid[i] != 0) present[labels[i]] = 1;
  };
  std::size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    std::uint64_t eight;
    std::memcpy(&eight, labels + i, sizeof eight);
    if (eight == ~std::uint64_t{0}) continue;  // most are void
    for (std::size_t j = i; j < i + 8; ++j) note(j);
  }
  for (; i < count; ++i) note(i);
}

}  // namespace weakseg
