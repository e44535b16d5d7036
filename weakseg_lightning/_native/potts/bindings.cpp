// Bindings of the grid Potts energy: alpha-expansion, edge weights, and the conversion of scores and label maps.
#include "bindings.hpp"

#include <nanobind/stl/tuple.h>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <tuple>
#include <utility>
#include <vector>

#include "potts/expansion_batch.hpp"
#include "potts/label_maps.hpp"
#include "potts/potts_weights.hpp"
#include "potts/softmax.hpp"
#include "soft_potts/batch.hpp"
#include "support/arrays.hpp"
#include "support/batch_scheduler.hpp"

namespace {

// The grid Potts energies of a batch of images in NumPy arrays, which live as long as this does.
struct PottsBatch {
  In<float, 3> scores;             // (P, H, W)
  In<float, 3> zero;               // (B, H, W)
  double slope;                    // label k costs slope * (its plane of scores - zero)
  In<std::int32_t, 1> planes;      // of all labels, those of the first image first
  In<std::uint8_t, 1> names;       // classes, in the same order
  In<std::int32_t, 1> num_labels;  // (B,)
  In<float, 4> edges;              // (B, 2 or 4, H, W), of volumes (B, 3 or 5, H, W)
  In<std::uint8_t, 3> seeds;       // (B, H, W), as all below
  In<std::uint8_t, 3> valid;
  In<std::uint8_t, 3> initial;
  int slice;  // rows of a slice, if these are volumes; or 0

  std::size_t images() const { return num_labels.shape(0); }
  std::size_t height() const { return edges.shape(2); }
  std::size_t width() const { return edges.shape(3); }
  std::size_t edge_planes() const { return edges.shape(1); }
  bool is_volume() const { return slice > 0; }

  void check_sizes() const {
    const std::size_t deeper = is_volume() ? 1 : 0;
    require(edge_planes() == 2 + deeper || edge_planes() == 4 + deeper,
            "`edges` must have 2 or 4 planes, those of volumes 3 or 5");
    require(slice >= 0 && (!is_volume() || height() % static_cast<std::size_t>(slice) == 0),
            "`slice` must divide the height");
    require(height() * width() < (std::size_t{1} << 28), "an image must have fewer than 2^28 pixels");
    require(edges.shape(0) == images(), "`edges` and `num_labels` must have the same length");
    require(scores.shape(1) == height() && scores.shape(2) == width(), "`scores` and `edges` must have the same size");
    const auto matches = [&](const auto& a) {
      return a.shape(0) == images() && a.shape(1) == height() && a.shape(2) == width();
    };
    require(matches(zero) && matches(seeds) && matches(valid) && matches(initial),
            "`zero`, `seeds`, `valid` and `initial` must have the size of `edges`");
  }

  // Checks all sizes and indices: what works on the view relies on them.
  weakseg::ExpansionBatch view() const {
    check_sizes();
    weakseg::ExpansionBatch batch;
    batch.images = images();
    batch.height = static_cast<int>(height());
    batch.width = static_cast<int>(width());
    batch.slice = slice;
    batch.slope = slope;
    std::size_t total = 0;
    for (std::size_t b = 0; b < images(); ++b) {
      const std::int32_t count = num_labels.data()[b];
      require(count >= 0 && count <= 255, "`num_labels` must be between 0 and 255");
      batch.first.push_back(total);
      total += static_cast<std::size_t>(count);
    }
    require(planes.shape(0) == total && names.shape(0) == total,
            "`planes` and `names` must list all labels of all images");
    for (std::size_t i = 0; i < total; ++i) {
      const std::int32_t plane = planes.data()[i];
      require(plane >= 0 && static_cast<std::size_t>(plane) < scores.shape(0),
              "`planes` must number planes of `scores`");
      batch.planes.push_back(scores.data() + static_cast<std::size_t>(plane) * batch.pixels());
    }
    batch.num_labels = num_labels.data();
    batch.names = names.data();
    batch.seeds = seeds.data();
    batch.valid = valid.data();
    batch.initial = initial.data();
    batch.zero = zero.data();
    batch.edges = edges.data();
    return batch;
  }
};

using ExpansionAnswer = std::tuple<New<std::uint8_t, 3>, New<double, 2>, New<std::int32_t, 2>>;

ExpansionAnswer expand(const PottsBatch& potts, int max_sweeps, bool from_blocks, int num_threads) {
  require(max_sweeps >= 0, "`max_sweeps` must be at least 0");
  weakseg::ExpansionBatch batch = potts.view();
  std::vector<std::uint8_t> labels(batch.images * batch.pixels(), weakseg::kVoid);
  std::vector<double> energies(3 * batch.images, std::numeric_limits<double>::quiet_NaN());
  std::vector<std::int32_t> status(3 * batch.images, 0);
  batch.labels = labels.data();
  batch.energies = energies.data();
  batch.status = status.data();
  batch.max_sweeps = max_sweeps;
  batch.from_blocks = from_blocks;
  {
    const nb::gil_scoped_release release;
    const std::size_t threads = at_least_one(num_threads);
    switch (potts.edge_planes()) {
      case 2: weakseg::expand<4>(batch, threads); break;
      case 3: weakseg::expand<6>(batch, threads); break;
      case 4: weakseg::expand<8>(batch, threads); break;
      default: weakseg::expand<10>(batch, threads);
    }
  }
  return {to_numpy<3>(std::move(labels), {batch.images, potts.height(), potts.width()}),
          to_numpy<2>(std::move(energies), {batch.images, 3}), to_numpy<2>(std::move(status), {batch.images, 3})};
}

using SoftPottsAnswer = std::tuple<New<double, 2>, New<std::int32_t, 2>>;

SoftPottsAnswer soft_potts(const PottsBatch& potts, int link, int relaxation, double eta, double tolerance,
                           int max_sweeps, const Out<float, 4>& probabilities, int num_threads) {
  require(link >= 0 && link <= 2, "`link` must be 0, 1 or 2");
  require(relaxation >= 0 && relaxation <= 5, "`relaxation` must be 0 to 5");
  require(!potts.is_volume(), "soft labels are of images, not of volumes");
  const weakseg::ExpansionBatch batch = potts.view();
  require(probabilities.shape(0) == batch.images && probabilities.shape(2) == potts.height() &&
              probabilities.shape(3) == potts.width(),
          "`probabilities` must have the batch and size of `edges`");
  for (std::size_t i = 0; i < potts.names.shape(0); ++i) {
    require(potts.names.data()[i] < probabilities.shape(1), "`probabilities` must have a plane for each class");
  }
  weakseg::SoftPottsProblem settings;
  settings.relaxation = static_cast<weakseg::Relaxation>(relaxation);
  settings.eta = static_cast<float>(eta);
  settings.tolerance = tolerance;
  settings.max_sweeps = max_sweeps;
  std::vector<double> energies(3 * batch.images, std::numeric_limits<double>::quiet_NaN());
  std::vector<std::int32_t> status(3 * batch.images, 0);
  const weakseg::SoftPottsAnswers answers{probabilities.data(), probabilities.shape(1), energies.data(), status.data()};
  {
    const nb::gil_scoped_release release;
    const std::size_t threads = at_least_one(num_threads);
    const auto kind = static_cast<weakseg::SoftLink>(link);
    if (potts.edge_planes() == 2) weakseg::solve_soft_potts<4>(kind, batch, settings, answers, threads);
    else weakseg::solve_soft_potts<8>(kind, batch, settings, answers, threads);
  }
  return {to_numpy<2>(std::move(energies), {batch.images, 3}), to_numpy<2>(std::move(status), {batch.images, 3})};
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
  nb::class_<PottsBatch>(
      m, "PottsBatch",
      "The grid Potts energies of a batch of B images of H x W pixels.\n\n"
      "Label k of an image costs a pixel `slope * (its plane of scores - zero)`. `planes` and `names`\n"
      "list the planes of `scores` (P, H, W) and the classes of all labels, those of the first image\n"
      "first; `num_labels` (B,) of them belong to each image. `seeds` and `initial` (B, H, W) hold\n"
      "classes, or 255; `valid` (B, H, W) is 0 on padding; `edges` are (B, 2 or 4, H, W).\n\n"
      "Volumes have slices of `slice` rows, which lie below one another in H. One more plane of edges joins each\n"
      "pixel to the one below it by `slice` rows; those between the last row of a slice and the next are 0.")
      .def(nb::init<In<float, 3>, In<float, 3>, double, In<std::int32_t, 1>, In<std::uint8_t, 1>, In<std::int32_t, 1>,
                    In<float, 4>, In<std::uint8_t, 3>, In<std::uint8_t, 3>, In<std::uint8_t, 3>, int>(),
           nb::kw_only(), nb::arg("scores"), nb::arg("zero"), nb::arg("slope"), nb::arg("planes"), nb::arg("names"),
           nb::arg("num_labels"), nb::arg("edges"), nb::arg("seeds"), nb::arg("valid"), nb::arg("initial"),
           nb::arg("slice") = 0);
  m.def("expand", &expand, nb::arg("batch"), nb::arg("max_sweeps"), nb::arg("from_blocks"), nb::arg("num_threads"),
        "Run alpha-expansion on each image of a batch.\n\n"
        "Returns labels (B, H, W), 255 on padding and in images that failed; energies (B, 3): unary, pairwise, lower\n"
        "bound or nan; status (B, 3): sweeps, converged, failure (0 none, 1 scores, 2 edges not finite). With\n"
        "`max_sweeps` 0 the labels are those to start from.");
  m.def("soft_potts", &soft_potts, nb::arg("batch"), nb::arg("link"), nb::arg("relaxation"), nb::arg("eta"),
        nb::arg("tolerance"), nb::arg("max_sweeps"), nb::arg("probabilities").noconvert(), nb::arg("num_threads"),
        "Find the soft labeling of each image of a batch for a link (0 collision, 1 cross-entropy, 2 reverse) and a\n"
        "relaxation (0 quadratic, 1 normalized, 2 log_quadratic, 3 bilinear, 4 collision, 5 collision_divergence).\n\n"
        "Writes to `probabilities` (B, K, H, W), of the images that succeed. Returns energies (B, 3): link,\n"
        "pairwise, gap; status (B, 3): sweeps, converged, failure as of `expand`.");
  m.def("potts_weights", &potts_weights, nb::arg("image"), nb::arg("valid"), nb::arg("weight"), nb::arg("normalize"),
        nb::arg("weights").noconvert(), nb::arg("num_threads"),
        "Write to `weights` those of all edges of a batch, as `GridPotts.edge_weights` defines them.");
  m.def("split_softmax", &split_softmax, nb::arg("scores"), nb::arg("valid"), nb::arg("best").noconvert(),
        nb::arg("logarithms").noconvert(), nb::arg("num_threads"),
        "Write the best score of each pixel to `best`, and for each image the sum over its valid pixels of\n"
        "log(sum_k exp(score_k - best)) to `logarithms`.");
  const auto define_read_labels = [&](auto read) {
    m.def("read_labels", read, nb::arg("labels").noconvert(), nb::arg("classes"), nb::arg("bytes").noconvert(),
          "Convert a label map to bytes; return whether it holds nothing but classes and 255.");
  };
  define_read_labels(&read_labels<std::int64_t>);
  define_read_labels(&read_labels<std::int32_t>);
  define_read_labels(&read_labels<std::uint8_t>);
  m.def("find_labels", &find_labels, nb::arg("labels"), nb::arg("valid"), nb::arg("present").noconvert(),
        "Set `present` (B, 256) to 1 for the labels of the valid pixels of each image, except 255.");
}
