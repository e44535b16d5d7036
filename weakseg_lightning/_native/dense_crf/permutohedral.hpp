// The permutohedral lattice of an image: where its pixels lie in the lattice, and which vertices are neighbors.
//   A. Adams, J. Baek, M. Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice", Eurographics 2010.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "support/intrinsics.hpp"

namespace weakseg {

struct LatticeInput {
  std::size_t pixels = 0;
  const float* features = nullptr;      // one plane per dimension
  const std::uint8_t* valid = nullptr;  // 0 on padding
};

// Numbers the vertices from 1 on; 0 stands for missing ones.
template <int D>
class LatticeBuilder {
 public:
  static constexpr int kCorners = D + 1;

  // Writes for each pixel the vertices of its simplex and its barycentric coordinates, both 0 on padding. Looking up
  // vertices waits for memory, so that the hash slots of a whole chunk of pixels are prefetched first.
  void place(const LatticeInput& input, std::int32_t* vertices, float* weights) {
    clear(input.pixels);
    for (std::size_t first = 0; first < input.pixels; first += kChunk) {
      const std::size_t end = std::min(first + kChunk, input.pixels);
      for (std::size_t p = first; p < end; ++p) find_simplex(input, p, simplices_[p - first], weights + p * kCorners);
      for (std::size_t p = first; p < end; ++p) {
        const Simplex& simplex = simplices_[p - first];
        if (input.valid[p] == 0) found_.fill(0);
        else if (!(simplex == last_)) find_vertices(simplex);  // else they are those of the pixel before
        last_ = simplex;
        std::copy(found_.begin(), found_.end(), vertices + p * kCorners);
      }
    }
  }

  // Number of vertices, counting vertex 0.
  std::size_t size() const { return keys_.size(); }

  // Writes for each vertex and direction the neighbors behind and before it; adds `first` to all numbers. Each pair of
  // neighbors is looked up only once.
  void connect(std::int32_t first, std::int32_t* neighbors) const {
    constexpr std::size_t kAhead = 4;
    std::fill_n(neighbors, keys_.size() * 2 * kCorners, first);
    for (std::size_t v = 1; v < keys_.size(); ++v) {
      const std::uint64_t soon = hash(keys_[std::min(v + kAhead, keys_.size() - 1)]), now = hash(keys_[v]);
      for (const std::uint64_t step : step_hash_) prefetch(slots_.data() + slot_of(soon + step));
      for (int direction = 0; direction < kCorners; ++direction) {
        const std::int32_t before = find(next_to(keys_[v], direction), now + step_hash_[direction]);
        if (before == 0) continue;
        const auto place = [&](std::size_t vertex) {
          return 2 * (vertex * kCorners + static_cast<std::size_t>(direction));
        };
        neighbors[place(v) + 1] = before + first;
        neighbors[place(static_cast<std::size_t>(before))] = static_cast<std::int32_t>(v) + first;
      }
    }
  }

 private:
  // All coordinates except the last, which is minus their sum, padded with zeros.
  using Key = std::array<std::int16_t, D <= 4 ? 4 : 8>;
  static_assert(D >= 1 && D <= 8);
  static constexpr float kFarthest = 16000;  // lets neighbors, and coordinates left out, fit into 16 bits

  static constexpr std::size_t kChunk = 32;  // pixels whose hash slots are prefetched together

  // A slot of the hash table: a vertex, and the half of its hash that does not determine its place. Comparing that
  // first avoids nearly all loads of keys that differ.
  struct Slot {
    std::int32_t vertex = 0;
    std::uint32_t tag = 0;
  };

  struct Simplex {
    std::array<int, kCorners> corner, rank;  // rank -1 on padding
    bool operator==(const Simplex& other) const { return corner == other.corner && rank == other.rank; }
  };

  void clear(std::size_t pixels) {
    keys_.assign(1, Key{});
    shift_ = 54;
    while ((std::size_t{1} << (64 - shift_)) < pixels) --shift_;
    slots_.assign(std::size_t{1} << (64 - shift_), Slot{});
    last_.rank.fill(-1);
    for (int i = 0; i < kCorners; ++i) step_hash_[i] = hash(next_to(Key{}, i));
    for (int r = 0; r < kCorners; ++r) remainder_hash_[r] = hash(filled(r));
    for (int i = 0; i < D; ++i) unit_hash_[i] = static_cast<std::uint64_t>(kCorners) * kMultipliers[i];
    // Gives the blur the variance of a unit Gaussian. In single precision, as in other implementations: its last digit
    // already moves far pixels towards another vertex, and iterations of mean field amplify that.
    const auto stretch = static_cast<float>(kCorners * std::sqrt(2.0 / 3.0));
    for (int i = 0; i < D; ++i) scale_[i] = static_cast<float>(stretch / std::sqrt((i + 1.0) * (i + 2.0)));
  }

  // Embeds a feature into the hyperplane of D + 1 coordinates whose sum is 0.
  void elevate() {
    float sum = 0;
    for (int i = D; i > 0; --i) {
      const float scaled = feature_[i - 1] * scale_[i - 1];
      elevated_[i] = sum - static_cast<float>(i) * scaled;
      sum += scaled;
    }
    elevated_[0] = sum;
  }

  // Finds the simplex of a pixel and prefetches the hash slots of its vertices.
  void find_simplex(const LatticeInput& input, std::size_t p, Simplex& simplex, float* weights) {
    if (input.valid[p] == 0) {
      simplex.corner.fill(0);
      simplex.rank.fill(-1);
      std::fill_n(weights, kCorners, 0.0F);
      return;
    }
    for (int i = 0; i < D; ++i) feature_[i] = input.features[static_cast<std::size_t>(i) * input.pixels + p];
    elevate();
    round_and_rank(simplex);
    weigh(simplex, weights);
    const std::uint64_t origin = hash_of(simplex.corner);
    for (int r = 0; r < kCorners; ++r) prefetch(slots_.data() + slot_of(hash_of(simplex, origin, r)));
  }

  // Finds the nearest lattice point of remainder 0 and the ranks of the differences to it, which determine the simplex.
  void round_and_rank(Simplex& simplex) {
    auto& [corner, rank] = simplex;
    int sum = 0;
    for (int i = 0; i < kCorners; ++i) {
      if (!(std::fabs(elevated_[i]) < kFarthest)) {
        throw std::invalid_argument("`features` must be finite and below about 1000 in size: take larger sigmas");
      }
      const float cells = elevated_[i] * (1.0F / kCorners);
      const float above = std::ceil(cells) * kCorners, below = std::floor(cells) * kCorners;
      corner[i] = static_cast<int>(above - elevated_[i] < elevated_[i] - below ? above : below);
      sum += corner[i];
    }
    sum /= kCorners;
    rank.fill(0);
    for (int i = 0; i < D; ++i) {
      for (int j = i + 1; j < kCorners; ++j) {
        const bool less = elevated_[i] - static_cast<float>(corner[i]) < elevated_[j] - static_cast<float>(corner[j]);
        rank[i] += less;
        rank[j] += !less;
      }
    }
    for (int i = 0; sum != 0 && i < kCorners; ++i) {
      rank[i] += sum;
      if (rank[i] < 0) {
        rank[i] += kCorners;
        corner[i] += kCorners;
      } else if (rank[i] > D) {
        rank[i] -= kCorners;
        corner[i] -= kCorners;
      }
    }
  }

  // Barycentric coordinates: differences of coordinates that are neighbors in rank.
  void weigh(const Simplex& simplex, float* weights) const {
    std::array<float, kCorners + 1> coordinates{};
    for (int i = 0; i < kCorners; ++i) {
      const float left = (elevated_[i] - static_cast<float>(simplex.corner[i])) * (1.0F / kCorners);
      coordinates[D - simplex.rank[i]] += left;
      coordinates[kCorners - simplex.rank[i]] -= left;
    }
    coordinates[0] += 1.0F + coordinates[kCorners];
    std::copy_n(coordinates.begin(), kCorners, weights);
  }

  void find_vertices(const Simplex& simplex) {
    const std::uint64_t origin = hash_of(simplex.corner);
    for (int remainder = 0; remainder < kCorners; ++remainder) {
      Key key{};
      for (int i = 0; i < D; ++i) {
        const int step = simplex.rank[i] <= D - remainder ? remainder : remainder - kCorners;
        key[i] = static_cast<std::int16_t>(simplex.corner[i] + step);
      }
      found_[remainder] = find_or_add(key, hash_of(simplex, origin, remainder));
    }
  }

  // The neighbor before a vertex, or before the origin, in a direction.
  static Key next_to(const Key& key, int direction) {
    Key next = key;
    for (int i = 0; i < D; ++i) next[i] = static_cast<std::int16_t>(key[i] + 1 - (i == direction ? kCorners : 0));
    return next;
  }

  static Key filled(int value) {
    Key key{};
    for (int i = 0; i < D; ++i) key[i] = static_cast<std::int16_t>(value);
    return key;
  }

  // The hash is linear in the key, so that a few additions lead from one vertex to its neighbors and to the other
  // corners of a simplex.
  template <class Coordinates>
  static std::uint64_t hash_of(const Coordinates& coordinates) {
    std::uint64_t sum = 0;
    for (int i = 0; i < D; ++i) sum += static_cast<std::uint64_t>(std::int64_t{coordinates[i]}) * kMultipliers[i];
    return sum;
  }
  static std::uint64_t hash(const Key& key) { return hash_of(key); }
  std::uint64_t hash_of(const Simplex& simplex, std::uint64_t origin, int remainder) const {
    std::uint64_t sum = origin + remainder_hash_[remainder];
    for (int i = 0; i < D; ++i) sum -= simplex.rank[i] <= D - remainder ? 0 : unit_hash_[i];
    return sum;
  }

  static std::uint64_t mix(std::uint64_t hash) { return (hash ^ (hash >> 32)) * 0x9E3779B97F4A7C15ULL; }
  std::size_t slot_of(std::uint64_t hash) const { return static_cast<std::size_t>(mix(hash) >> shift_); }
  static std::uint32_t tag_of(std::uint64_t hash) { return static_cast<std::uint32_t>(mix(hash)); }

  std::int32_t find(const Key& key, std::uint64_t hash) const { return slots_[place_of(key, hash)].vertex; }

  // The slot that holds a key, or else the free slot where it belongs.
  std::size_t place_of(const Key& key, std::uint64_t hash) const {
    const std::size_t mask = slots_.size() - 1;
    for (std::size_t place = slot_of(hash);; place = (place + 1) & mask) {
      const Slot& slot = slots_[place];
      if (slot.vertex == 0) return place;
      if (slot.tag == tag_of(hash) && keys_[static_cast<std::size_t>(slot.vertex)] == key) return place;
    }
  }

  std::int32_t find_or_add(const Key& key, std::uint64_t hash) {
    Slot& slot = slots_[place_of(key, hash)];
    if (slot.vertex != 0) return slot.vertex;
    const auto added = static_cast<std::int32_t>(keys_.size());
    slot = {added, tag_of(hash)};
    keys_.push_back(key);
    if (2 * keys_.size() > slots_.size()) grow();
    return added;
  }

  void grow() {
    --shift_;
    slots_.assign(2 * slots_.size(), Slot{});
    const std::size_t mask = slots_.size() - 1;
    for (std::size_t v = 1; v < keys_.size(); ++v) {
      const std::uint64_t own = hash(keys_[v]);
      std::size_t place = slot_of(own);
      while (slots_[place].vertex != 0) place = (place + 1) & mask;
      slots_[place] = {static_cast<std::int32_t>(v), tag_of(own)};
    }
  }

  static constexpr std::array<std::uint64_t, 8> kMultipliers{
      0x9E3779B97F4A7C15ULL, 0xBF58476D1CE4E5B9ULL, 0x94D049BB133111EBULL, 0xD6E8FEB86659FD93ULL,
      0xC2B2AE3D27D4EB4FULL, 0x165667B19E3779F9ULL, 0x27D4EB2F165667C5ULL, 0x85EBCA77C2B2AE63ULL};

  std::vector<Key> keys_;
  std::vector<Slot> slots_;
  int shift_ = 54;
  std::array<float, D> feature_, scale_;
  std::array<float, kCorners> elevated_;
  std::array<std::uint64_t, kCorners> step_hash_, remainder_hash_;
  std::array<std::uint64_t, D> unit_hash_;
  std::array<Simplex, kChunk> simplices_;
  Simplex last_;
  std::array<std::int32_t, kCorners> found_;
};

}  // namespace weakseg
