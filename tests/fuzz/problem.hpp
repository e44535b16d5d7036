// Random labeling problems, each derived from one number.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <vector>

namespace fuzz {

constexpr std::uint8_t kVoid = 255;
constexpr std::array<int, 4> kRowStep = {0, 1, 1, 1}, kColumnStep = {1, 0, 1, -1};  // of the edge planes
constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInfinity = std::numeric_limits<float>::infinity();

// SplitMix64: the same numbers on every machine.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  std::uint64_t bits() {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15U;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
  }
  int below(int end) { return static_cast<int>(bits() % static_cast<std::uint64_t>(end)); }
  int between(int first, int last) { return first + below(last - first + 1); }
  float uniform() { return static_cast<float>(bits() >> 40) * 0x1p-24F; }
  float signed_uniform() { return 2 * uniform() - 1; }
  bool chance(int percent) { return below(100) < percent; }
  template <class T>
  T pick(std::initializer_list<T> values) {
    return values.begin()[below(static_cast<int>(values.size()))];
  }

 private:
  std::uint64_t state_;
};

struct Edge {
  int p, q;
  float weight;
};

// Label k costs slope * (scores[k][pixel] - zero[pixel]); planes are row-major. With 6 or 10 neighbors it is a volume, of
// slices of so many rows below one another.
struct Problem {
  int height = 1, width = 1, connectivity = 4, slice = 0, num_labels = 1, max_sweeps = 60;
  double slope = -1;
  std::vector<std::vector<float>> scores;
  std::vector<float> zero, weights;
  std::vector<std::uint8_t> valid, seeds, initial;
  std::vector<Edge> edges;  // those between two valid pixels

  int pixels() const { return height * width; }
  bool is_free(int pixel) const { return valid[at(pixel)] != 0 && seeds[at(pixel)] == kVoid; }
  static std::size_t at(int index) { return static_cast<std::size_t>(index); }

  bool is_volume() const { return connectivity == 6 || connectivity == 10; }

  // The pixel at the other end of an edge, or -1 outside the image or volume.
  int neighbor(int pixel, int plane) const {
    const bool deeper = is_volume() && plane == connectivity / 2 - 1;
    const int row = pixel / width + (deeper ? slice : kRowStep[at(plane)]);
    const int column = pixel % width + (deeper ? 0 : kColumnStep[at(plane)]);
    return row < height && column >= 0 && column < width ? row * width + column : -1;
  }
  // Whether an edge leaves its slice within the slice's own plane: there is none, and its weight has to be 0.
  bool crosses(int pixel, int other, int plane) const {
    const bool deeper = is_volume() && plane == connectivity / 2 - 1;
    return is_volume() && !deeper && pixel / width / slice != other / width / slice;
  }
};

// One pixel of a problem made by hand: the costs of its labels, and its edges to the right and down. A seed's are 0.
struct Planted {
  int row, column, seed;
  std::array<float, 4> costs;
  float right, down;
};

// What no random problem showed: flows of earlier moves that must be asked again, or a move that pays is never made.
constexpr float kDear = 200;
// Label 1's first move is refused twice over, apart; once the pixel before the last has left, both pay together.
constexpr std::array<Planted, 7> kSharedSink = {{{0, 0, 1, {}, 10, 0},
                                                 {0, 1, kVoid, {0, 2, kDear, kDear}, 20, 0},
                                                 {0, 2, kVoid, {0, 10, kDear, kDear}, 20, 0},
                                                 {0, 3, kVoid, {0, 0, kDear, kDear}, 20, 0},
                                                 {0, 4, kVoid, {8, 0, kDear, kDear}, 10, 0},
                                                 {0, 5, kVoid, {30, 50, 0, kDear}, 100, 0},
                                                 {0, 6, 2, {}, 0, 0}}};
// Label 2's flow in the last two pixels of row 2 stands until their neighbor on the left, which it never passed, has
// left for label 0 and come to label 2.
constexpr std::array<Planted, 12> kNewNeighbor = {{{0, 2, kVoid, {kDear, kDear, 0, 60}, 0, 30},
                                                    {0, 3, kVoid, {kDear, kDear, 0, 10}, 0, 20},
                                                    {1, 1, 1, {}, 50, 0},
                                                    {1, 2, kVoid, {0, kDear, 56, 20}, 10, 0},
                                                    {1, 3, kVoid, {kDear, kDear, 4, 0}, 0, 10},
                                                    {2, 0, kVoid, {kDear, kDear, 0, 50}, 35, 0},
                                                    {2, 1, kVoid, {kDear, 10, 100, 20}, 40, 0},
                                                    {2, 2, kVoid, {0, 10, kDear, 65}, 25, 10},
                                                    {2, 3, kVoid, {8, 100, 1, 0}, 5, 0},
                                                    {2, 4, kVoid, {kDear, kDear, 0, 6}, 20, 0},
                                                    {2, 5, kVoid, {kDear, kDear, 6, 0}, 0, 0},
                                                    {3, 2, kVoid, {kDear, kDear, 0, 60}, 0, 0}}};

class Drawing {
 public:
  Drawing(std::uint64_t seed, int connectivity) : random_(seed) {
    problem_.connectivity = random_.pick({4, 8, 4, 8, 6, 10});
    if (connectivity != 0) problem_.connectivity = connectivity;
  }

  Problem draw() {
    const bool cascade = random_.chance(25);
    draw_size();
    draw_valid();
    if (cascade) draw_window();
    draw_slices();
    draw_scores();
    draw_weights();
    problem_.seeds = draw_labels(random_.pick({0, 0, 0, 0, 0, 5, 5, 20, 50, 100}));
    problem_.initial = draw_labels(random_.pick({0, 0, 0, 80, 100, 100}));
    if (random_.chance(20)) problem_.initial.assign(pixels(), 0);
    problem_.max_sweeps = random_.pick({1, 2, 5, 5, 60, 60, 60, 60});
    if (cascade) draw_cascade();
    if (random_.chance(2)) random_.chance(50) ? plant(kSharedSink, 0) : plant(kNewNeighbor, 3);
    if (random_.chance(3)) spoil();
    find_edges();
    return problem_;
  }

 private:
  std::size_t pixels() const { return static_cast<std::size_t>(problem_.pixels()); }

  void draw_size() {
    const int kind = random_.below(1000);
    const int most = kind < 500 ? 4 : kind < 850 ? 7 : kind < 992 ? 12 : 40;
    problem_.height = random_.between(1, most);
    problem_.width = random_.between(1, most);
    if (random_.chance(12)) {  // long paths
      problem_.height = random_.pick({1, 1, 2});
      problem_.width = random_.between(1, 5 * most);
      if (random_.chance(20)) std::swap(problem_.height, problem_.width);
    }
    problem_.num_labels = random_.pick({1, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 4, 4, 4, 4, 5, 6});
    if (random_.chance(2)) problem_.num_labels = 21;
    if (random_.chance(1) && pixels() < 10) problem_.num_labels = 255;
  }

  void draw_slices() {
    if (!problem_.is_volume()) return;
    int slices = random_.between(1, std::min(problem_.height, 5));
    while (problem_.height % slices != 0) --slices;
    problem_.slice = problem_.height / slices;
  }

  void draw_valid() {
    problem_.valid.assign(pixels(), 1);
    const int kind = random_.below(100);
    if (kind < 50) return;
    if (kind < 60) {
      for (std::uint8_t& valid : problem_.valid) valid = random_.chance(80);
    } else if (kind < 97) {  // a window: much padding around few pixels makes a cut local, as it is on large images
      const int top = random_.below(problem_.height), left = random_.below(problem_.width);
      const int bottom = random_.between(top, std::min(top + 3, problem_.height - 1));
      const int right = random_.between(left, problem_.width - 1);
      for (int y = 0; y < problem_.height; ++y) {
        for (int x = 0; x < problem_.width; ++x) {
          problem_.valid[Problem::at(y * problem_.width + x)] = y >= top && y <= bottom && x >= left && x <= right;
        }
      }
    } else {
      problem_.valid.assign(pixels(), 0);
    }
  }

  // A few pixels and much padding: the solver sees a large image of which little takes part, and looks no further.
  void draw_window() {
    problem_.height = random_.pick({1, 1, 1, 1, 2});
    problem_.width = 64 / problem_.height;
    problem_.num_labels = random_.pick({3, 3, 3, 3, 4});
    problem_.valid.assign(pixels(), 0);
    const int length = random_.between(4, 10 / problem_.height);
    for (int i = 0; i < problem_.pixels(); ++i) problem_.valid[Problem::at(i)] = i % problem_.width < length;
  }

  // Moves that are refused until another one makes way for them: what flows of earlier moves stand for is asked again.
  void draw_cascade() {
    problem_.slope = 1;
    for (std::size_t k = 0; k < problem_.scores.size(); ++k) {
      const int dear = k == 0 ? 0 : random_.pick({0, 0, 50, 85});
      for (std::size_t i = 0; i < pixels(); ++i) {
        if (problem_.valid[i] == 0) continue;
        const float cost = random_.pick({0.0F, 0.0F, 0.0F, 2.0F, 8.0F, 10.0F, 30.0F, 50.0F});
        problem_.scores[k][i] = random_.chance(dear) ? 100 : cost;
      }
    }
    for (std::size_t i = 0; i < problem_.weights.size(); ++i) {
      const float weight = random_.pick({2.0F, 10.0F, 10.0F, 20.0F, 20.0F, 64.0F});
      if (problem_.valid[i % pixels()] != 0) problem_.weights[i] = weight;
    }
    if (random_.chance(80)) problem_.initial.assign(pixels(), 0);
    if (random_.chance(30)) return;
    problem_.seeds.assign(pixels(), kVoid);
    for (std::size_t i = 0; i < pixels(); ++i) {  // the ends
      const bool end = i == 0 || i + 1 == pixels() || problem_.valid[i - 1] == 0 || problem_.valid[i + 1] == 0;
      if (end && random_.chance(70)) problem_.seeds[i] = static_cast<std::uint8_t>(random_.below(problem_.num_labels));
    }
  }

  // A problem made by hand, with some of its numbers changed.
  template <std::size_t N>
  void plant(const std::array<Planted, N>& pixels_given, std::uint8_t start) {
    const int connectivity = problem_.connectivity, percent = random_.pick({0, 3, 10});
    problem_ = Problem();
    problem_.connectivity = connectivity;
    problem_.height = 4;
    problem_.slice = problem_.is_volume() ? 4 : 0;
    problem_.width = random_.pick({12, 24});
    problem_.num_labels = 4;
    problem_.slope = 1;
    problem_.zero.assign(pixels(), 0);
    problem_.valid.assign(pixels(), 0);
    problem_.seeds.assign(pixels(), kVoid);
    problem_.initial.assign(pixels(), start);
    problem_.scores.assign(4, std::vector<float>(pixels()));
    problem_.weights.assign(Problem::at(connectivity / 2) * pixels(), 0);
    const auto change = [&](float value) {
      return random_.chance(percent) ? value + random_.pick({-2.0F, 2.0F, 20.0F}) : value;
    };
    for (const Planted& given : pixels_given) {
      const std::size_t i = Problem::at(given.row * problem_.width + given.column);
      problem_.valid[i] = 1;
      problem_.seeds[i] = static_cast<std::uint8_t>(given.seed);
      for (std::size_t k = 0; k < 4; ++k) problem_.scores[k][i] = change(given.costs[k]);
      problem_.weights[i] = std::max(0.0F, change(given.right));
      problem_.weights[pixels() + i] = std::max(0.0F, change(given.down));
    }
  }

  void draw_scores() {
    const float size = random_.chance(80) ? 1.0F : random_.pick({1e-6F, 1e-3F, 80.0F, 1e6F, 1e36F, 1e-40F});
    const int kind = random_.below(6), most = random_.pick({1, 2, 3, 8, 30});
    draw_regions();
    for (int k = 0; k < problem_.num_labels; ++k) {
      std::vector<float> plane = kind == 0 ? smooth() : std::vector<float>(pixels());
      for (std::size_t i = 0; i < pixels(); ++i) {
        if (kind == 1) plane[i] = 4 * random_.signed_uniform();
        if (kind >= 2 && kind <= 4) plane[i] = static_cast<float>(random_.between(0, most));
        if (kind == 4) plane[i] = (regions_[i] == k ? 4.0F : 0.0F) + (random_.chance(10) ? plane[i] : 0.0F);
        if (kind == 3 && random_.chance(30)) plane[i] = -100;  // out of the question for positive slopes and nearly so
        plane[i] *= size;
      }
      if (k > 0 && random_.chance(5)) plane = problem_.scores.back();
      problem_.scores.push_back(plane);
    }
    problem_.slope = random_.pick({-1.0, -1.0, -1.0, 1.0, 1.0, -2.0, 0.5, -1.37, 0.21});
    if (random_.chance(4)) problem_.slope = random_.pick({0.0, 1e6, -1e-6});
    problem_.zero.assign(pixels(), random_.chance(50) ? 0.0F : size);
    if (random_.chance(30)) {
      for (std::size_t i = 0; i < pixels(); ++i) {
        for (const std::vector<float>& plane : problem_.scores) problem_.zero[i] = std::max(problem_.zero[i], plane[i]);
      }
    }
  }

  // The nearest of a few centers.
  void draw_regions() {
    struct Center {
      int row, column, label;
    };
    std::vector<Center> centers(Problem::at(random_.between(1, 6)));
    for (Center& c : centers) {
      c = {random_.below(problem_.height), random_.below(problem_.width), random_.below(problem_.num_labels)};
    }
    for (int i = 0; i < problem_.pixels(); ++i) {
      const auto distance = [&](const Center& c) {
        const int dy = c.row - i / problem_.width, dx = c.column - i % problem_.width;
        return dy * dy + dx * dx;
      };
      const auto nearer = [&](const Center& a, const Center& b) { return distance(a) < distance(b); };
      regions_.push_back(std::min_element(centers.begin(), centers.end(), nearer)->label);
    }
  }

  // Bilinear interpolation between random values some pixels apart.
  std::vector<float> smooth() {
    const int step = random_.between(2, 7), columns = problem_.width / step + 2, rows = problem_.height / step + 2;
    std::vector<float> coarse(Problem::at(rows * columns)), plane;
    for (float& value : coarse) value = 4 * random_.signed_uniform();
    for (int i = 0; i < problem_.pixels(); ++i) {
      const int y = i / problem_.width, x = i % problem_.width, first = y / step * columns + x / step;
      const float fy = static_cast<float>(y % step) / static_cast<float>(step);
      const float fx = static_cast<float>(x % step) / static_cast<float>(step);
      const float above = (1 - fx) * coarse[Problem::at(first)] + fx * coarse[Problem::at(first + 1)];
      const int next = first + columns;
      const float below = (1 - fx) * coarse[Problem::at(next)] + fx * coarse[Problem::at(next + 1)];
      plane.push_back((1 - fy) * above + fy * below);
    }
    return plane;
  }

  void draw_weights() {
    const float size = random_.chance(70) ? 1.0F : random_.pick({1e-6F, 0.25F, 10.0F, 80.0F, 1e6F, 1e35F, 1e-40F});
    const int kind = random_.below(6), most = random_.pick({1, 2, 4, 4, 16});
    problem_.weights.resize(Problem::at(problem_.connectivity / 2) * pixels());
    for (float& weight : problem_.weights) {
      if (kind <= 1) weight = static_cast<float>(random_.between(0, most));
      if (kind == 2) weight = 1;
      if (kind == 3) weight = 3 * std::exp(-8 * random_.uniform());
      if (kind == 4) weight = random_.chance(50) ? 0 : random_.pick({1.0F, 2.0F, 8.0F});
      if (kind == 5) weight = random_.pick({0.0F, 1e-6F, 1.0F, 1.0F, 80.0F, 1e6F});
      weight *= size;
    }
    if (random_.chance(3)) std::fill(problem_.weights.begin(), problem_.weights.end(), 0.0F);
    if (kind == 1) problem_.weights[0] = 16 * size;  // a power of two: nothing is rounded
  }

  std::vector<std::uint8_t> draw_labels(int percent) {
    std::vector<std::uint8_t> labels(pixels(), kVoid);
    const bool regions = random_.chance(30);
    for (std::size_t i = 0; i < pixels(); ++i) {
      const int label = regions ? regions_[i] : random_.below(problem_.num_labels);
      if (random_.chance(percent)) labels[i] = static_cast<std::uint8_t>(label);
    }
    return labels;
  }

  // Puts a value that is not finite somewhere, be it where nobody looks.
  void spoil() {
    std::vector<float>& scores = problem_.scores[Problem::at(random_.below(problem_.num_labels))];
    std::vector<float>& plane = *random_.pick({&scores, &problem_.zero, &problem_.weights});
    plane[Problem::at(random_.below(static_cast<int>(plane.size())))] = random_.pick({kNan, kInfinity, -kInfinity});
  }

  // Lists the edges, and puts anything in place of those that do not exist.
  void find_edges() {
    const float other = random_.pick({0.0F, 0.0F, 1e9F, -3.0F, kNan});
    for (int plane = 0; plane < problem_.connectivity / 2; ++plane) {
      for (int p = 0; p < problem_.pixels(); ++p) {
        float& weight = problem_.weights[Problem::at(plane) * pixels() + Problem::at(p)];
        const int q = problem_.neighbor(p, plane);
        const bool exists = q >= 0 && problem_.valid[Problem::at(p)] != 0 && problem_.valid[Problem::at(q)] != 0;
        if (q >= 0 && problem_.crosses(p, q, plane)) weight = 0;
        else if (exists) problem_.edges.push_back({p, q, weight});
        else weight = other;
      }
    }
  }

  Random random_;
  Problem problem_;
  std::vector<int> regions_;
};

// The problem of a number; `connectivity` is 4, 6, 8, 10, or 0 for any.
inline Problem draw(std::uint64_t seed, int connectivity = 0) { return Drawing(seed, connectivity).draw(); }

}  // namespace fuzz
