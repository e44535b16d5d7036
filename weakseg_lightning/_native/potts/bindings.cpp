// Grid Potts energies in the Python module: alpha-expansion, edge weights, and the maps that go in and come out.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <limits>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "bindings.hpp"
#include "potts/alpha_expansion.hpp"
#include "potts/label_maps.hpp"
#include "potts/potts_weights.hpp"
#include "potts/softmax.hpp"
#include "support/arrays.hpp"
#include "support/parallel.hpp"

namespace {

// The images of a batch; image b has its own number of labels, whose planes and names start at first[b].
struct Batch {
  std::size_t size = 0, pixels = 0;
  std::vector<std::size_t> order;  // in which they are solved
  std::vector<std::size_t> first;
  std::vector<const float*> planes;
  const std::int32_t* num_labels = nullptr;
  const std::uint8_t* names = nullptr;
  const std::uint8_t *seeds = nullptr, *valid = nullptr, *initial = nullptr;
  const float *zero = nullptr, *edges = nullptr;
  std::uint8_t* labels = nullptr;
  double* energies = nullptr;
  std::int32_t* status = nullptr;
};

template <int D>
class Worker {
 public:
  Worker(const Batch& batch, weakseg::ExpansionProblem problem)
      : batch_(batch), problem_(problem), solver_(shelf().take()) {}
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;
  ~Worker() {
    if (std::uncaught_exceptions() == 0) shelf().put(std::move(solver_));  // else it may be in any state
  }

  void operator()(std::size_t job) {
    const std::size_t b = batch_.order[job];
    const std::size_t pixels = batch_.pixels, first = batch_.first[b];
    problem_.num_labels = batch_.num_labels[b];
    if (problem_.num_labels == 0) return;
    const std::uint8_t* names = batch_.names + first;
    problem_.planes = batch_.planes.data() + first;
    problem_.zero = batch_.zero + b * pixels;
    problem_.edges = batch_.edges + b * pixels * static_cast<std::size_t>(D / 2);
    problem_.valid = batch_.valid + b * pixels;
    problem_.seeds = rename(batch_.seeds + b * pixels, names, seeds_);
    problem_.initial = rename(batch_.initial + b * pixels, names, initial_);
    std::uint8_t* labels = batch_.labels + b * pixels;
    const weakseg::ExpansionResult result = solver_->run(problem_, labels);
    batch_.status[3 * b + 2] = static_cast<std::int32_t>(result.failure);
    if (result.failure != weakseg::Failure::kNone) return;
    bool renamed = false;
    for (int k = 0; k < problem_.num_labels; ++k) renamed |= names[k] != k;
    for (std::size_t i = 0; renamed && i < pixels; ++i) {
      if (labels[i] != weakseg::kVoid) labels[i] = names[labels[i]];
    }
    batch_.energies[3 * b] = result.unary;
    batch_.energies[3 * b + 1] = result.pairwise;
    batch_.energies[3 * b + 2] = result.has_bound ? result.lower_bound : std::numeric_limits<double>::quiet_NaN();
    batch_.status[3 * b] = result.sweeps;
    batch_.status[3 * b + 1] = result.converged ? 1 : 0;
  }

 private:
  // Class -> position among the image's labels; classes that are not among them become void.
  const std::uint8_t* rename(const std::uint8_t* classes, const std::uint8_t* names, std::vector<std::uint8_t>& out) {
    std::array<std::uint8_t, 256> position;
    position.fill(weakseg::kVoid);
    for (int k = 0; k < problem_.num_labels; ++k) position[names[k]] = static_cast<std::uint8_t>(k);
    position[weakseg::kVoid] = weakseg::kVoid;
    out.resize(batch_.pixels);
    std::size_t i = 0;
    for (; i + 8 <= batch_.pixels; i += 8) {
      std::uint64_t eight;
      std::memcpy(&eight, classes + i, sizeof eight);
      if (eight == ~std::uint64_t{0}) std::memcpy(out.data() + i, &eight, sizeof eight);  // most are void
      else for (std::size_t j = i; j < i + 8; ++j) out[j] = position[classes[j]];
    }
    for (; i < batch_.pixels; ++i) out[i] = position[classes[i]];
    return out.data();
  }

  static weakseg::Shelf<weakseg::AlphaExpansion<D>>& shelf() {
    static weakseg::Shelf<weakseg::AlphaExpansion<D>> kept;
    return kept;
  }

  const Batch& batch_;
  weakseg::ExpansionProblem problem_;
  std::unique_ptr<weakseg::AlphaExpansion<D>> solver_;
  std::vector<std::uint8_t> seeds_, initial_;
};

// How hard an image promises to be: how often the best label changes along every fourth row, for each label.
std::size_t contest(const Batch& batch, const weakseg::ExpansionProblem& problem, std::size_t b) {
  const auto width = static_cast<std::size_t>(problem.width);
  const float sign = problem.slope < 0 ? 1.0F : -1.0F;
  std::vector<float> best(width);
  std::vector<std::int32_t> label(width);
  std::size_t changes = 0;
  for (std::size_t row = 0; row < batch.pixels; row += 4 * width) {
    std::fill(best.begin(), best.end(), std::numeric_limits<float>::lowest());
    for (std::int32_t k = 0; k < batch.num_labels[b]; ++k) {
      const float* scores = batch.planes[batch.first[b] + static_cast<std::size_t>(k)] + row;
      for (std::size_t x = 0; x < width; ++x) {
        const bool better = sign * scores[x] > best[x];
        best[x] = better ? sign * scores[x] : best[x];
        label[x] = better ? k : label[x];
      }
    }
    for (std::size_t x = 1; x < width; ++x) changes += label[x] != label[x - 1];
  }
  return changes * static_cast<std::size_t>(batch.num_labels[b]);
}

// The hardest first, so that no thread is left alone with one of them at the end.
void order_by_contest(Batch& batch, const weakseg::ExpansionProblem& problem) {
  std::vector<std::size_t> contests;
  for (std::size_t b = 0; b < batch.size; ++b) contests.push_back(contest(batch, problem, b));
  std::stable_sort(batch.order.begin(), batch.order.end(),
                   [&](std::size_t a, std::size_t b) { return contests[a] > contests[b]; });
}

template <int D>
void run(const Batch& batch, const weakseg::ExpansionProblem& problem, std::size_t num_threads) {
  weakseg::parallel_for(batch.size, num_threads, [&] { return Worker<D>(batch, problem); });
}

void expand(const In<float, 3>& scores, const In<float, 3>& zero, double slope, const In<std::int32_t, 1>& planes,
            const In<std::uint8_t, 1>& names, const In<std::int32_t, 1>& num_labels, const In<float, 4>& edges,
            const In<std::uint8_t, 3>& seeds, const In<std::uint8_t, 3>& valid,
            const In<std::uint8_t, 3>& initial, const Out<std::uint8_t, 3>& labels, const Out<double, 2>& energies,
            const Out<std::int32_t, 2>& status, int max_sweeps, bool from_blocks, int num_threads) {
  Batch batch;
  batch.size = num_labels.shape(0);
  const std::size_t height = edges.shape(2), width = edges.shape(3), edge_planes = edges.shape(1);
  batch.pixels = height * width;
  require(edge_planes == 2 || edge_planes == 4, "`edges` must have 2 or 4 planes");
  require(batch.pixels < (std::size_t{1} << 28), "an image must have fewer than 2^28 pixels");
  require(edges.shape(0) == batch.size, "`edges` and `num_labels` must have the same length");
  require(scores.shape(1) == height && scores.shape(2) == width, "`scores` and `edges` must have the same size");
  const auto matches = [&](const auto& a) {
    return a.shape(0) == batch.size && a.shape(1) == height && a.shape(2) == width;
  };
  require(matches(zero) && matches(seeds) && matches(valid) && matches(initial) && matches(labels),
          "`zero`, `seeds`, `valid`, `initial` and `labels` must have the size of `edges`");
  require(energies.shape(0) == batch.size && energies.shape(1) == 3, "`energies` must be (B, 3)");
  require(status.shape(0) == batch.size && status.shape(1) == 3, "`status` must be (B, 3)");
  require(max_sweeps >= 0, "`max_sweeps` must be at least 0");
  std::size_t total = 0;
  for (std::size_t b = 0; b < batch.size; ++b) {
    const std::int32_t count = num_labels.data()[b];
    require(count >= 0 && count <= 255, "`num_labels` must be between 0 and 255");
    batch.first.push_back(total);
    total += static_cast<std::size_t>(count);
  }
  require(planes.shape(0) == total && names.shape(0) == total, "`planes` and `names` must list all labels of all images");
  for (std::size_t i = 0; i < total; ++i) {
    const std::int32_t plane = planes.data()[i];
    require(plane >= 0 && static_cast<std::size_t>(plane) < scores.shape(0), "`planes` must number planes of `scores`");
    batch.planes.push_back(scores.data() + static_cast<std::size_t>(plane) * batch.pixels);
  }
  batch.num_labels = num_labels.data();
  batch.names = names.data();
  batch.seeds = seeds.data();
  batch.valid = valid.data();
  batch.initial = initial.data();
  batch.zero = zero.data();
  batch.edges = edges.data();
  batch.labels = labels.data();
  batch.energies = energies.data();
  batch.status = status.data();
  weakseg::ExpansionProblem problem;
  problem.height = static_cast<int>(height);
  problem.width = static_cast<int>(width);
  problem.slope = slope;
  problem.max_sweeps = max_sweeps;
  problem.from_blocks = from_blocks;
  const std::size_t threads = at_least_one(num_threads);
  const nb::gil_scoped_release release;
  batch.order.resize(batch.size);
  std::iota(batch.order.begin(), batch.order.end(), std::size_t{0});
  if (threads > 1 && batch.size > threads) order_by_contest(batch, problem);
  if (edge_planes == 2) run<4>(batch, problem, threads);
  else run<8>(batch, problem, threads);
}

void potts_weights(const In<float, 4>& image, const In<std::uint8_t, 3>& valid, double weight, bool normalize,
                   const Out<float, 4>& weights, int num_threads) {
  const std::size_t height = image.shape(2), width = image.shape(3), planes = weights.shape(1);
  require(planes == 2 || planes == 4, "`weights` must have 2 or 4 planes");
  require(valid.shape(0) == image.shape(0) && valid.shape(1) == height && valid.shape(2) == width &&
              weights.shape(0) == image.shape(0) && weights.shape(2) == height && weights.shape(3) == width,
          "`image`, `valid` and `weights` must have the same batch and size");
  weakseg::PottsWeights problem;
  problem.height = static_cast<int>(height);
  problem.width = static_cast<int>(width);
  problem.channels = static_cast<int>(image.shape(1));
  problem.weight = weight;
  problem.normalize = normalize;
  const std::size_t pixels = height * width;
  const auto solve = [&](std::size_t b) {
    weakseg::PottsWeights mine = problem;
    mine.image = image.data() + b * image.shape(1) * pixels;
    mine.valid = valid.data() + b * pixels;
    float* out = weights.data() + b * planes * pixels;
    if (planes == 2) weakseg::PottsWeightsOfImage<4>(mine).write(out);
    else weakseg::PottsWeightsOfImage<8>(mine).write(out);
  };
  const std::size_t threads = at_least_one(num_threads);
  const nb::gil_scoped_release release;
  weakseg::parallel_for(pixels == 0 ? 0 : image.shape(0), threads, [&] { return solve; });
}

void split_softmax(const In<float, 4>& scores, const In<std::uint8_t, 3>& valid, const Out<float, 3>& best,
                   const Out<double, 1>& logarithms, int num_threads) {
  const std::size_t batch = scores.shape(0), classes = scores.shape(1);
  const auto matches = [&](const auto& a) {
    return a.shape(0) == batch && a.shape(1) == scores.shape(2) && a.shape(2) == scores.shape(3);
  };
  require(matches(valid) && matches(best) && logarithms.shape(0) == batch,
          "`valid`, `best` and `logarithms` must have the batch and size of `scores`");
  require(classes >= 1 && classes <= 255, "`scores` must have 1 to 255 planes");
  const std::size_t pixels = scores.shape(2) * scores.shape(3);
  const auto split = [&](std::size_t b) {
    const weakseg::Softmax mine{pixels, classes, scores.data() + b * classes * pixels, valid.data() + b * pixels};
    logarithms.data()[b] = weakseg::SplitSoftmax(mine).run(best.data() + b * pixels);
  };
  const std::size_t threads = at_least_one(num_threads);
  const nb::gil_scoped_release release;
  weakseg::parallel_for(batch, threads, [&] { return split; });
}

template <class Integer>
bool read_labels(const In<Integer, 3>& labels, int classes, const Out<std::uint8_t, 3>& bytes) {
  require(classes >= 1 && classes <= 255, "`classes` must be between 1 and 255");
  require(labels.size() == bytes.size(), "`labels` and `bytes` must have the same size");
  return weakseg::read_labels(labels.data(), labels.size(), static_cast<std::uint8_t>(classes - 1), bytes.data());
}

void find_labels(const In<std::uint8_t, 3>& labels, const In<std::uint8_t, 3>& valid,
                 const Out<std::uint8_t, 2>& present) {
  const std::size_t batch = labels.shape(0), pixels = labels.shape(1) * labels.shape(2);
  require(valid.size() == labels.size(), "`labels` and `valid` must have the same size");
  require(present.shape(0) == batch && present.shape(1) == 256, "`present` must be (B, 256)");
  for (std::size_t b = 0; b < batch; ++b) {
    weakseg::find_labels(labels.data() + b * pixels, valid.data() + b * pixels, pixels, present.data() + 256 * b);
  }
}

}  // namespace

void bind_potts(nb::module_& m) {
  m.def("expand", &expand, nb::arg("scores"), nb::arg("zero"), nb::arg("slope"), nb::arg("planes"), nb::arg("names"),
        nb::arg("num_labels"), nb::arg("edges"), nb::arg("seeds"), nb::arg("valid"), nb::arg("initial"),
        nb::arg("labels").noconvert(), nb::arg("energies").noconvert(),
        nb::arg("status").noconvert(), nb::arg("max_sweeps"), nb::arg("from_blocks"), nb::arg("num_threads"),
        "alpha-expansion on the images of a batch; writes `labels`, `energies` (unary, pairwise, lower bound) and "
        "`status` (sweeps, converged, failure: 0 none, 1 scores, 2 edges not finite).");
  m.def("potts_weights", &potts_weights, nb::arg("image"), nb::arg("valid"), nb::arg("weight"), nb::arg("normalize"),
        nb::arg("weights").noconvert(), nb::arg("num_threads"),
        "Potts weights of all edges of a batch of images, as `GridPotts.edge_weights` defines them.");
  m.def("split_softmax", &split_softmax, nb::arg("scores"), nb::arg("valid"), nb::arg("best").noconvert(),
        nb::arg("logarithms").noconvert(), nb::arg("num_threads"),
        "Writes `best`, the best score of every pixel, and `logarithms`, for each image the sum of "
        "log(sum_k exp(score_k - best)) over its valid pixels.");
  const auto define = [&](auto read) {
    m.def("read_labels", read, nb::arg("labels").noconvert(), nb::arg("classes"), nb::arg("bytes").noconvert(),
          "Writes a map in bytes; returns whether it holds nothing but classes and 255.");
  };
  define(&read_labels<std::int64_t>);
  define(&read_labels<std::int32_t>);
  define(&read_labels<std::uint8_t>);
  m.def("find_labels", &find_labels, nb::arg("labels"), nb::arg("valid"), nb::arg("present").noconvert(),
        "Sets `present` (B, 256) to 1 for the labels of each image's valid pixels, 255 aside.");
}
