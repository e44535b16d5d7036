// Splat, blur and slice on a lattice that stands: sums over all pixels, weighted by a Gaussian of their features.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "lanes.hpp"
#include "wide_vectors.hpp"

namespace weakseg {

// The lattice of one image, numbered from `first` on; vertex `first` stands for those that are not there.
struct LatticeTables {
  std::size_t pixels = 0, size = 0, corners = 0;
  std::int32_t first = 0;
  const std::int32_t* vertices = nullptr;   // (pixels, corners)
  const float* weights = nullptr;           // likewise
  const std::int32_t* neighbors = nullptr;  // (size, corners, 2)

  // A factor that makes up for the blur, which gives a vertex itself weight 1 in each direction.
  float scale() const { return 1.0F / (1.0F + 1.0F / static_cast<float>(std::size_t{1} << (corners - 1))); }
};

enum class Blur { kForward, kAdjoint, kMean };

// The vertices in the order in which a direction of the lattice passes them, a 0 between those that are not neighbours,
// one before the first and two after the last. Those without neighbours, which the blur does not change, are left out.
struct LatticeChains {
  std::vector<std::vector<std::int32_t>> directions;

  void find(const LatticeTables& lattice) {
    directions.resize(lattice.corners);
    for (std::size_t i = 0; i < lattice.corners; ++i) {
      std::vector<std::int32_t>& chain = directions[i];
      chain.assign(1, 0);
      const auto neighbor = [&](std::size_t vertex, std::size_t side) {
        return lattice.neighbors[2 * (vertex * lattice.corners + i) + side] - lattice.first;
      };
      for (std::size_t v = 1; v < lattice.size; ++v) {
        if (neighbor(v, 1) != 0 || neighbor(v, 0) == 0) continue;
        for (auto at = static_cast<std::int32_t>(v); at != 0; at = neighbor(static_cast<std::size_t>(at), 0)) {
          chain.push_back(at);
        }
        chain.push_back(0);
      }
      chain.push_back(0);
    }
  }
};

// Values at the vertices of a lattice, `V` times eight channels each; as many as the constructor says where V is 0.
template <std::size_t V>
class LatticeValues {
 public:
  explicit LatticeValues(std::size_t blocks = V) : blocks_(blocks) {}

  std::size_t blocks() const { return V > 0 ? V : blocks_; }
  std::size_t stride() const { return blocks() * kLanes; }

  void clear(const LatticeTables& lattice) {
    lattice_ = &lattice;
    values_.assign(lattice.size * blocks(), 0.0F);
  }

  // Asks for the memory of a pixel that is about to be spread or read.
  WEAKSEG_INLINED void prepare(std::size_t pixel) const {
    const std::size_t start = std::min(pixel, lattice_->pixels - 1) * lattice_->corners;
    for (std::size_t i = start; i < start + lattice_->corners; ++i) ask_for(lattice_->vertices[i] - lattice_->first);
  }

  WEAKSEG_INLINED void splat(std::size_t pixel, const Lanes* what) {
    const std::size_t start = pixel * lattice_->corners;
    for (std::size_t i = start; i < start + lattice_->corners; ++i) {
      float* row = row_of(values_, lattice_->vertices[i]);
      const float weight = lattice_->weights[i];
      for (std::size_t v = 0; v < blocks(); ++v) {
        Lanes value;
        load(value, row + v * kLanes);
        store(value + what[v] * weight, row + v * kLanes);
      }
    }
  }

  WEAKSEG_INLINED void slice(std::size_t pixel, Lanes* sums) const {
    const std::size_t start = pixel * lattice_->corners;
    for (std::size_t v = 0; v < blocks(); ++v) sums[v] = Lanes{};
    for (std::size_t i = start; i < start + lattice_->corners; ++i) {
      const float* row = row_of(values_, lattice_->vertices[i]);
      const float weight = lattice_->weights[i];
      for (std::size_t v = 0; v < blocks(); ++v) {
        Lanes value;
        load(value, row + v * kLanes);
        sums[v] += value * weight;
      }
    }
  }

  // In place, along one direction after the other.
  WEAKSEG_INLINED void blur(Blur how) {
    if (how == Blur::kMean) kept_ = values_;
    for (std::size_t i = 0; i < lattice_->corners; ++i) {
      blur_along(how == Blur::kAdjoint ? lattice_->corners - 1 - i : i);
    }
    if (how != Blur::kMean) return;
    kept_.swap(values_);
    for (std::size_t i = lattice_->corners; i > 0; --i) blur_along(i - 1);
    float* sum = values_.data();
    const float* kept = kept_.data();
    for (std::size_t i = 0; i < values_.blocks() * kLanes; ++i) sum[i] = 0.5F * (sum[i] + kept[i]);
  }

  // The same as blur(Blur::kForward), in place, and faster; but chains take time to find.
  WEAKSEG_INLINED void blur(const LatticeChains& chains) {
    for (const std::vector<std::int32_t>& chain : chains.directions) blur_along(chain);
  }

 private:
  static constexpr std::size_t kMostBlocks = V > 0 ? V : 32;

  template <class Values>
  WEAKSEG_INLINED auto row_of(Values& values, std::int32_t vertex) const {
    return values.data() + static_cast<std::size_t>(vertex - lattice_->first) * stride();
  }

  // A vertex without neighbours keeps its value; the others form chains, which are walked from their heads.
  WEAKSEG_INLINED void blur_along(std::size_t direction) {
    const std::int32_t none = lattice_->first;
    const std::size_t step = 2 * lattice_->corners;
    const std::int32_t* neighbors = lattice_->neighbors + 2 * direction;
    const auto behind = [&](std::int32_t vertex) { return neighbors[static_cast<std::size_t>(vertex - none) * step + 1]; };
    for (std::size_t i = 0; i < lattice_->size; ++i) {
      if (neighbors[i * step] != none || neighbors[i * step + 1] == none) continue;
      std::array<Lanes, kMostBlocks> before{}, own;
      std::int32_t vertex = none + static_cast<std::int32_t>(i);
      load_row(own, vertex);
      for (std::int32_t next = behind(vertex); vertex != none; vertex = next, next = behind(vertex)) {
        float* row = row_of(values_, vertex);
        const float* after_row = row_of(values_, next);
        for (std::size_t v = 0; v < blocks(); ++v) {
          Lanes after;
          load(after, after_row + v * kLanes);
          store(own[v] + (before[v] + after) * 0.5F, row + v * kLanes);
          before[v] = own[v];
          own[v] = after;
        }
      }
    }
  }

  WEAKSEG_INLINED void load_row(std::array<Lanes, kMostBlocks>& row, std::int32_t vertex) const {
    for (std::size_t v = 0; v < blocks(); ++v) load(row[v], row_of(values_, vertex) + v * kLanes);
  }

  WEAKSEG_INLINED void blur_along(const std::vector<std::int32_t>& chain) {
    constexpr std::size_t kAhead = 16;
    const std::size_t last = chain.size() - 1;
    std::array<Lanes, kMostBlocks> before{}, own{};
    std::array<float, kMostBlocks * kLanes> nowhere;
    for (std::size_t i = 0; i < last; ++i) {
      ask_for(chain[std::min(i + kAhead, last)]);
      const float* from = row_at(chain[i + 1]);
      float* to = chain[i] == 0 ? nowhere.data() : row_at(chain[i]);
      for (std::size_t v = 0; v < blocks(); ++v) {
        Lanes after;
        load(after, from + v * kLanes);
        store(own[v] + (before[v] + after) * 0.5F, to + v * kLanes);
        before[v] = own[v];
        own[v] = after;
      }
    }
  }

  float* row_at(std::int32_t place) { return values_.data() + static_cast<std::size_t>(place) * stride(); }

  WEAKSEG_INLINED void ask_for(std::int32_t place) const {
    const float* row = values_.data() + static_cast<std::size_t>(place) * stride();
    for (std::size_t v = 0; v < stride(); v += 16) prefetch(row + v);
    prefetch(row + stride() - 1);
  }

  std::size_t blocks_;
  const LatticeTables* lattice_ = nullptr;
  AlignedFloats values_, kept_;
};

// Filters planes, up to 32 of them at a time.
class LatticeFilter {
 public:
  static constexpr std::size_t kMostPlanes = 4 * kLanes, kAhead = 4;

  void run(const LatticeTables& lattice, Blur how, std::size_t planes, const float* in, float* out) {
    const std::size_t blocks = (planes + kLanes - 1) / kLanes;
    if (blocks == 1) filter(one_, lattice, how, planes, in, out);
    else if (blocks == 2) filter(two_, lattice, how, planes, in, out);
    else if (blocks == 3) filter(three_, lattice, how, planes, in, out);
    else filter(four_, lattice, how, planes, in, out);
  }

 private:
  template <std::size_t V>
  void filter(LatticeValues<V>& values, const LatticeTables& lattice, Blur how, std::size_t planes, const float* in,
              float* out) {
    const float scale = lattice.scale();
    values.clear(lattice);
    vectorised([&]() WEAKSEG_INLINED {
      std::array<float, V * kLanes> row{};
      std::array<Lanes, V> lanes;
      for (std::size_t p = 0; p < lattice.pixels; ++p) {
        values.prepare(p + kAhead);
        for (std::size_t c = 0; c < planes; ++c) row[c] = in[c * lattice.pixels + p];
        for (std::size_t v = 0; v < V; ++v) load(lanes[v], row.data() + v * kLanes);
        values.splat(p, lanes.data());
      }
      values.blur(how);
      for (std::size_t p = 0; p < lattice.pixels; ++p) {
        values.prepare(p + kAhead);
        values.slice(p, lanes.data());
        for (std::size_t v = 0; v < V; ++v) store(lanes[v], row.data() + v * kLanes);
        for (std::size_t c = 0; c < planes; ++c) out[c * lattice.pixels + p] = scale * row[c];
      }
    });
  }

  LatticeValues<1> one_;
  LatticeValues<2> two_;
  LatticeValues<3> three_;
  LatticeValues<4> four_;
};

}  // namespace weakseg
