// The permutohedral lattice of an image (Adams, Baek, Davis: Fast High-Dimensional Filtering Using the Permutohedral
// Lattice, Eurographics 2010): where the pixels lie in it, and which of its vertices are neighbours.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <vector>

namespace weakseg {

struct LatticeInput {
  std::size_t pixels = 0;
  const float* features = nullptr;      // a plane a dimension
  const std::uint8_t* valid = nullptr;  // 0 on padding
};

// Numbers vertices from 1 on; 0 stands for those that are not there.
template <int D>
class LatticeBuilder {
 public:
  static constexpr int kCorners = D + 1;

  // Writes, for each pixel, the vertices of its simplex and its barycentric coordinates; both 0 on padding.
  void place(const LatticeInput& input, std::int32_t* vertices, float* weights) {
    clear(input.pixels);
    for (std::size_t p = 0; p < input.pixels; ++p, vertices += kCorners, weights += kCorners) {
      if (input.valid[p] == 0) {
        std::fill_n(vertices, kCorners, 0);
        std::fill_n(weights, kCorners, 0.0F);
        continue;
      }
      for (int i = 0; i < D; ++i) feature_[i] = input.features[static_cast<std::size_t>(i) * input.pixels + p];
      elevate();
      find_simplex();
      weigh(weights);
      if (corner_ != last_corner_ || rank_ != last_rank_) find_vertices();  // else those of the pixel before
      std::copy(found_.begin(), found_.end(), vertices);
    }
  }

  // Vertices, that which is missing included.
  std::size_t size() const { return keys_.size(); }

  // Writes, for each vertex and direction, the neighbours behind and before it, `first` added to each number.
  void connect(std::int32_t first, std::int32_t* neighbors) const {
    std::fill_n(neighbors, keys_.size() * 2 * kCorners, first);
    for (std::size_t v = 1; v < keys_.size(); ++v) {
      for (int direction = 0; direction < kCorners; ++direction) {
        Key key = keys_[v];
        for (int i = 0; i < D; ++i) key[i] = static_cast<std::int16_t>(key[i] + 1 - (i == direction ? kCorners : 0));
        const std::int32_t before = find(key);
        if (before == 0) continue;
        const auto place = [&](std::size_t vertex) { return 2 * (vertex * kCorners + static_cast<std::size_t>(direction)); };
        neighbors[place(v) + 1] = before + first;
        neighbors[place(static_cast<std::size_t>(before))] = static_cast<std::int32_t>(v) + first;
      }
    }
  }

 private:
  // The coordinates but the last, which is minus their sum; filled up with zeros.
  using Key = std::array<std::int16_t, D <= 4 ? 4 : 8>;
  static_assert(D >= 1 && D <= 8);
  static constexpr float kFarthest = 16000;  // such that neighbours and implied coordinates fit into 16 bits

  void clear(std::size_t pixels) {
    keys_.assign(1, Key{});
    std::size_t slots = 1024;
    while (slots < pixels) slots *= 2;
    slots_.assign(slots, 0);
    last_rank_.fill(-1);
    const double stretch = kCorners * std::sqrt(2.0 / 3.0);  // makes the blur's variance that of a unit Gaussian
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

  // Finds the nearest lattice point of remainder 0, and the order of the differences to it.
  void find_simplex() {
    int sum = 0;
    for (int i = 0; i < kCorners; ++i) {
      if (!(std::fabs(elevated_[i]) < kFarthest)) {
        throw std::invalid_argument("`features` must be finite and below about 1000 in size: take larger sigmas");
      }
      const float cells = elevated_[i] * (1.0F / kCorners);
      const float above = std::ceil(cells) * kCorners, below = std::floor(cells) * kCorners;
      corner_[i] = static_cast<int>(above - elevated_[i] < elevated_[i] - below ? above : below);
      sum += corner_[i];
    }
    sum /= kCorners;
    rank_.fill(0);
    for (int i = 0; i < D; ++i) {
      for (int j = i + 1; j < kCorners; ++j) {
        const bool less = elevated_[i] - static_cast<float>(corner_[i]) < elevated_[j] - static_cast<float>(corner_[j]);
        rank_[i] += less;
        rank_[j] += !less;
      }
    }
    for (int i = 0; sum != 0 && i < kCorners; ++i) {
      rank_[i] += sum;
      if (rank_[i] < 0) {
        rank_[i] += kCorners;
        corner_[i] += kCorners;
      } else if (rank_[i] > D) {
        rank_[i] -= kCorners;
        corner_[i] -= kCorners;
      }
    }
  }

  // Barycentric coordinates: differences between what neighbours in rank have left.
  void weigh(float* weights) const {
    std::array<float, kCorners + 1> coordinates{};
    for (int i = 0; i < kCorners; ++i) {
      const float left = (elevated_[i] - static_cast<float>(corner_[i])) * (1.0F / kCorners);
      coordinates[D - rank_[i]] += left;
      coordinates[kCorners - rank_[i]] -= left;
    }
    coordinates[0] += 1.0F + coordinates[kCorners];
    std::copy_n(coordinates.begin(), kCorners, weights);
  }

  void find_vertices() {
    for (int remainder = 0; remainder < kCorners; ++remainder) {
      Key key{};
      for (int i = 0; i < D; ++i) {
        const int step = rank_[i] <= D - remainder ? remainder : remainder - kCorners;
        key[i] = static_cast<std::int16_t>(corner_[i] + step);
      }
      found_[remainder] = find_or_add(key);
    }
    last_corner_ = corner_;
    last_rank_ = rank_;
  }

  static std::size_t hash(const Key& key) {
    std::array<std::uint64_t, 2> words{};
    std::memcpy(words.data(), key.data(), sizeof key);
    std::uint64_t mixed = words[0] * 0x9E3779B97F4A7C15ULL;
    if (D > 4) mixed = (mixed ^ (mixed >> 32) ^ words[1]) * 0xD6E8FEB86659FD93ULL;
    return static_cast<std::size_t>(mixed ^ (mixed >> 32));
  }

  std::int32_t find(const Key& key) const {
    const std::size_t mask = slots_.size() - 1;
    for (std::size_t slot = hash(key) & mask;; slot = (slot + 1) & mask) {
      const std::int32_t vertex = slots_[slot];
      if (vertex == 0 || keys_[static_cast<std::size_t>(vertex)] == key) return vertex;
    }
  }

  std::int32_t find_or_add(const Key& key) {
    const std::size_t mask = slots_.size() - 1;
    std::size_t slot = hash(key) & mask;
    for (; slots_[slot] != 0; slot = (slot + 1) & mask) {
      if (keys_[static_cast<std::size_t>(slots_[slot])] == key) return slots_[slot];
    }
    const auto added = static_cast<std::int32_t>(keys_.size());
    slots_[slot] = added;
    keys_.push_back(key);
    if (2 * keys_.size() > slots_.size()) grow();
    return added;
  }

  void grow() {
    slots_.assign(2 * slots_.size(), 0);
    const std::size_t mask = slots_.size() - 1;
    for (std::size_t v = 1; v < keys_.size(); ++v) {
      std::size_t slot = hash(keys_[v]) & mask;
      while (slots_[slot] != 0) slot = (slot + 1) & mask;
      slots_[slot] = static_cast<std::int32_t>(v);
    }
  }

  std::vector<Key> keys_;
  std::vector<std::int32_t> slots_;
  std::array<float, D> feature_, scale_;
  std::array<float, kCorners> elevated_;
  std::array<int, kCorners> corner_, rank_, last_corner_, last_rank_;
  std::array<std::int32_t, kCorners> found_;
};

}  // namespace weakseg
