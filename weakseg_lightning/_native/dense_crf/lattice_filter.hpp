// Splat, blur and slice on a lattice: sums over all pixels, weighted by a Gaussian of their features.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "support/intrinsics.hpp"
#include "support/lanes.hpp"
#include "support/wide_vectors.hpp"

namespace weakseg {

// The lattice of one image. Its vertices are numbered from `first` on; vertex `first` itself stands for missing ones.
struct LatticeTables {
  std::size_t pixels = 0, size = 0, corners = 0;
  std::int32_t first = 0;
  const std::int32_t* vertices = nullptr;   // (pixels, corners)
  const float* weights = nullptr;           // (pixels, corners), barycentric
  const std::int32_t* neighbors = nullptr;  // (size, corners, 2)

  // Compensates the gain of the blur, which weights a vertex itself by 1 in each direction.
  float scale() const { return 1.0F / (1.0F + 1.0F / static_cast<float>(std::size_t{1} << (corners - 1))); }
};

enum class Blur { kForward, kAdjoint, kMean };

// For each direction of the lattice, its vertices in chains of neighbors, with a 0 at both ends of every chain. The
// blur then reads each vertex once and in order, instead of looking up two neighbors. It does not change vertices
// without neighbors, which are left out.
class LatticeChains {
 public:
  void find(const LatticeTables& lattice) {
    directions_.resize(lattice.corners);
    for (std::size_t i = 0; i < lattice.corners; ++i) find(lattice, lattice.neighbors + 2 * i, directions_[i]);
  }

  std::size_t size() const { return directions_.size(); }
  const std::vector<std::int32_t>& operator[](std::size_t direction) const { return directions_[direction]; }

 private:
  void find(const LatticeTables& lattice, const std::int32_t* neighbors, std::vector<std::int32_t>& chain) {
    heads_.clear();
    after_.resize(lattice.size);  // a compact copy: following the table itself would load all directions
    for (std::size_t v = 0; v < lattice.size; ++v, neighbors += 2 * lattice.corners) {
      after_[v] = neighbors[1] - lattice.first;
      if (neighbors[0] == lattice.first && after_[v] != 0) heads_.push_back(static_cast<std::int32_t>(v));
    }
    chain.assign(1, 0);
    for (const std::int32_t head : heads_) {
      for (std::int32_t at = head; at != 0; at = after_[static_cast<std::size_t>(at)]) chain.push_back(at);
      chain.push_back(0);
    }
    chain.push_back(0);
  }

  std::vector<std::vector<std::int32_t>> directions_;
  std::vector<std::int32_t> heads_, after_;
};

// Values at the vertices of a lattice: V vectors of kLanes channels each. V = 0 stands for a number known only at run
// time.
template <std::size_t V>
class LatticeValues {
 public:
  explicit LatticeValues(std::size_t vectors = V) : vectors_(vectors) {}

  std::size_t vectors() const { return V > 0 ? V : vectors_; }
  std::size_t stride() const { return vectors() * kLanes; }

  void clear(const LatticeTables& lattice) {
    lattice_ = &lattice;
    values_.assign(lattice.size * vectors(), 0.0F);
  }

  // Prefetches the vertices of a pixel that is about to be splatted or sliced: they are anywhere in memory.
  WEAKSEG_INLINED void prepare(std::size_t pixel) const {
    const std::size_t start = std::min(pixel, lattice_->pixels - 1) * lattice_->corners;
    for (std::size_t i = start; i < start + lattice_->corners; ++i) ask_for(lattice_->vertices[i] - lattice_->first);
  }

  WEAKSEG_INLINED void splat(std::size_t pixel, const Lanes* what) {
    const std::size_t start = pixel * lattice_->corners;
    for (std::size_t i = start; i < start + lattice_->corners; ++i) {
      float* row = row_of(values_, lattice_->vertices[i]);
      const float weight = lattice_->weights[i];
      for (std::size_t v = 0; v < vectors(); ++v) {
        Lanes value;
        load(value, row + v * kLanes);
        store(value + what[v] * weight, row + v * kLanes);
      }
    }
  }

  WEAKSEG_INLINED void slice(std::size_t pixel, Lanes* sums) const {
    const std::size_t start = pixel * lattice_->corners;
    for (std::size_t v = 0; v < vectors(); ++v) sums[v] = Lanes{};
    for (std::size_t i = start; i < start + lattice_->corners; ++i) {
      const float* row = row_of(values_, lattice_->vertices[i]);
      const float weight = lattice_->weights[i];
      for (std::size_t v = 0; v < vectors(); ++v) {
        Lanes value;
        load(value, row + v * kLanes);
        sums[v] += value * weight;
      }
    }
  }

  // Blurs in place, along one direction after the other. The order matters, since vertices that do not exist cut off
  // part of the blur; the reverse order gives the adjoint, and the mean of both a symmetric operator.
  WEAKSEG_INLINED void blur(Blur how, const LatticeChains& chains) {
    if (how == Blur::kMean) kept_ = values_;
    for (std::size_t i = 0; i < chains.size(); ++i) {
      blur_along(chains[how == Blur::kAdjoint ? chains.size() - 1 - i : i]);
    }
    if (how != Blur::kMean) return;
    kept_.swap(values_);
    for (std::size_t i = chains.size(); i > 0; --i) blur_along(chains[i - 1]);
    float* sum = values_.data();
    const float* kept = kept_.data();
    for (std::size_t i = 0; i < values_.vectors() * kLanes; ++i) sum[i] = 0.5F * (sum[i] + kept[i]);
  }

 private:
  static constexpr std::size_t kMostVectors = V > 0 ? V : 32;

  template <class Values>
  WEAKSEG_INLINED auto row_of(Values& values, std::int32_t vertex) const {
    return values.data() + static_cast<std::size_t>(vertex - lattice_->first) * stride();
  }

  WEAKSEG_INLINED void blur_along(const std::vector<std::int32_t>& chain) {
    constexpr std::size_t kAhead = 16;
    const std::size_t last = chain.size() - 1;
    std::array<Lanes, kMostVectors> before{}, own{};
    std::array<float, kMostVectors * kLanes> nowhere;  // takes what is written in between chains, without a branch
    for (std::size_t i = 0; i < last; ++i) {
      ask_for(chain[std::min(i + kAhead, last)]);
      const float* from = row_at(chain[i + 1]);
      float* to = chain[i] == 0 ? nowhere.data() : row_at(chain[i]);
      for (std::size_t v = 0; v < vectors(); ++v) {
        Lanes after;
        load(after, from + v * kLanes);
        store(own[v] + (before[v] + after) * 0.5F, to + v * kLanes);
        before[v] = own[v];
        own[v] = after;
      }
    }
  }

  float* row_at(std::int32_t place) { return values_.data() + static_cast<std::size_t>(place) * stride(); }

  // One address per cache line of 64 bytes, and the last, since rows need not be aligned to lines.
  WEAKSEG_INLINED void ask_for(std::int32_t place) const {
    const float* row = values_.data() + static_cast<std::size_t>(place) * stride();
    for (std::size_t v = 0; v < stride(); v += 16) prefetch(row + v);
    prefetch(row + stride() - 1);
  }

  std::size_t vectors_;
  const LatticeTables* lattice_ = nullptr;
  AlignedFloats values_, kept_;
};

// Filters up to kMostPlanes planes at once.
class LatticeFilter {
 public:
  static constexpr std::size_t kMostPlanes = 4 * kLanes, kAhead = 4;

  void run(const LatticeTables& lattice, Blur how, std::size_t planes, const float* in, float* out) {
    const std::size_t vectors = (planes + kLanes - 1) / kLanes;
    if (vectors == 1) filter(one_, lattice, how, planes, in, out);
    else if (vectors == 2) filter(two_, lattice, how, planes, in, out);
    else if (vectors == 3) filter(three_, lattice, how, planes, in, out);
    else filter(four_, lattice, how, planes, in, out);
  }

 private:
  template <std::size_t V>
  void filter(LatticeValues<V>& values, const LatticeTables& lattice, Blur how, std::size_t planes, const float* in,
              float* out) {
    const float scale = lattice.scale();
    values.clear(lattice);
    chains_.find(lattice);
    vectorized([&]() WEAKSEG_INLINED {
      std::array<float, V * kLanes> row{};
      std::array<Lanes, V> lanes;
      for (std::size_t p = 0; p < lattice.pixels; ++p) {
        values.prepare(p + kAhead);
        for (std::size_t c = 0; c < planes; ++c) row[c] = in[c * lattice.pixels + p];
        for (std::size_t v = 0; v < V; ++v) load(lanes[v], row.data() + v * kLanes);
        values.splat(p, lanes.data());
      }
      values.blur(how, chains_);
      for (std::size_t p = 0; p < lattice.pixels; ++p) {
        values.prepare(p + kAhead);
        values.slice(p, lanes.data());
        for (std::size_t v = 0; v < V; ++v) store(lanes[v], row.data() + v * kLanes);
        for (std::size_t c = 0; c < planes; ++c) out[c * lattice.pixels + p] = scale * row[c];
      }
    });
  }

  LatticeChains chains_;
  LatticeValues<1> one_;
  LatticeValues<2> two_;
  LatticeValues<3> three_;
  LatticeValues<4> four_;
};

}  // namespace weakseg
