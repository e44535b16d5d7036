// Bindings of the dense CRF: permutohedral lattices and mean field.
#include "bindings.hpp"

#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <stdexcept>
#include <tuple>
#include <utility>
#include <vector>

#include "dense_crf/lattice_filter.hpp"
#include "dense_crf/mean_field.hpp"
#include "dense_crf/permutohedral.hpp"
#include "support/arrays.hpp"
#include "support/batch_scheduler.hpp"
#include "support/object_pool.hpp"

namespace {

struct LatticeOutput {
  std::int32_t* vertices = nullptr;
  float* weights = nullptr;
  std::vector<std::int32_t> neighbors;
  std::vector<std::int64_t> starts;
};

// Places all images before connecting any: only then are the first vertices of the later ones known.
template <int D>
void build(std::size_t batch, std::size_t pixels, const float* features, const std::uint8_t* valid, LatticeOutput& out,
           std::size_t threads) {
  constexpr std::size_t kCorners = D + 1;
  std::vector<weakseg::LatticeBuilder<D>> builders(batch);
  weakseg::parallel_for(batch, threads, [&] {
    return [&](std::size_t b) {
      const std::size_t first = b * pixels;
      builders[b].place({pixels, features + D * first, valid + first}, out.vertices + kCorners * first,
                        out.weights + kCorners * first);
    };
  });
  out.starts.assign(1, 0);
  for (const auto& builder : builders) {
    out.starts.push_back(out.starts.back() + static_cast<std::int64_t>(builder.size()));
  }
  require(out.starts.back() <= std::numeric_limits<std::int32_t>::max(), "the batch has too many lattice vertices");
  out.neighbors.resize(static_cast<std::size_t>(out.starts.back()) * 2 * kCorners);
  weakseg::parallel_for(batch, threads, [&] {
    return [&](std::size_t b) {
      const std::int64_t first = out.starts[b];
      builders[b].connect(static_cast<std::int32_t>(first), out.neighbors.data() + first * 2 * std::int64_t{kCorners});
      std::int32_t* vertices = out.vertices + b * pixels * kCorners;
      for (std::size_t i = 0; i < pixels * kCorners; ++i) vertices[i] += static_cast<std::int32_t>(first);
    };
  });
}

using NeighborsAndStarts = std::tuple<New<std::int32_t, 3>, New<std::int64_t, 1>>;

NeighborsAndStarts build_lattices(const In<float, 3>& features, const In<std::uint8_t, 2>& valid,
                                  const Out<std::int32_t, 3>& vertices, const Out<float, 3>& weights, int num_threads) {
  const std::size_t batch = features.shape(0), dimensions = features.shape(1), pixels = features.shape(2);
  require(valid.shape(0) == batch && valid.shape(1) == pixels, "`valid` must be (B, N), `features` being (B, D, N)");
  for (const auto* shape : {vertices.shape_ptr(), weights.shape_ptr()}) {
    require(shape[0] == static_cast<std::int64_t>(batch) && shape[1] == static_cast<std::int64_t>(pixels) &&
                shape[2] == static_cast<std::int64_t>(dimensions + 1),
            "`vertices` and `weights` must be (B, N, D + 1)");
  }
  LatticeOutput out;
  out.vertices = vertices.data();
  out.weights = weights.data();
  {
    const nb::gil_scoped_release release;
    const auto run = [&](auto make) {
      make(batch, pixels, features.data(), valid.data(), out, at_least_one(num_threads));
    };
    switch (dimensions) {
      case 1: run(build<1>); break;
      case 2: run(build<2>); break;
      case 3: run(build<3>); break;
      case 4: run(build<4>); break;
      case 5: run(build<5>); break;
      case 6: run(build<6>); break;
      default: throw std::invalid_argument("`features` must have 1 to 6 dimensions");
    }
  }
  const auto size = static_cast<std::size_t>(out.starts.back());
  return {to_numpy<3>(std::move(out.neighbors), {size, dimensions + 1, 2}),
          to_numpy<1>(std::move(out.starts), {batch + 1})};
}

// The lattices of a batch in NumPy arrays.
struct Lattices {
  In<std::int32_t, 3> vertices;
  In<float, 3> weights;
  In<std::int32_t, 3> neighbors;
  In<std::int64_t, 1> starts;

  void check(std::size_t batch, std::size_t pixels) const {
    require(vertices.shape(0) == batch && vertices.shape(1) == pixels && weights.shape(0) == batch &&
                weights.shape(1) == pixels && weights.shape(2) == vertices.shape(2) && starts.shape(0) == batch + 1,
            "the lattices must be of the values' batch and pixels");
    require(neighbors.shape(1) == vertices.shape(2) && neighbors.shape(2) == 2, "`neighbors` must be (V, D + 1, 2)");
  }

  weakseg::LatticeTables of(std::size_t b) const {
    weakseg::LatticeTables tables;
    tables.pixels = vertices.shape(1);
    tables.corners = vertices.shape(2);
    const auto first = static_cast<std::size_t>(starts.data()[b]);
    tables.first = static_cast<std::int32_t>(first);
    tables.size = static_cast<std::size_t>(starts.data()[b + 1]) - first;
    tables.vertices = vertices.data() + b * tables.pixels * tables.corners;
    tables.weights = weights.data() + b * tables.pixels * tables.corners;
    tables.neighbors = neighbors.data() + first * 2 * tables.corners;
    return tables;
  }
};

struct FilterWorker {
  const Lattices& lattices;
  const float* values;
  float* out;
  std::size_t planes;
  weakseg::Blur blur;
  weakseg::Pooled<weakseg::LatticeFilter> filter{};

  void operator()(std::size_t job) {
    constexpr std::size_t kMost = weakseg::LatticeFilter::kMostPlanes;
    const std::size_t parts = (planes + kMost - 1) / kMost, b = job / parts, first = job % parts * kMost;
    const weakseg::LatticeTables tables = lattices.of(b);
    const std::size_t start = (b * planes + first) * tables.pixels;
    filter->run(tables, blur, std::min(kMost, planes - first), values + start, out + start);
  }
};

void filter_lattices(const In<std::int32_t, 3>& vertices, const In<float, 3>& weights,
                     const In<std::int32_t, 3>& neighbors, const In<std::int64_t, 1>& starts,
                     const In<float, 3>& values, int blur, const Out<float, 3>& filtered, int num_threads) {
  const std::size_t batch = values.shape(0), planes = values.shape(1), pixels = values.shape(2);
  const Lattices lattices{vertices, weights, neighbors, starts};
  lattices.check(batch, pixels);
  require(filtered.shape(0) == batch && filtered.shape(1) == planes && filtered.shape(2) == pixels,
          "`filtered` must have the shape of `values`");
  require(blur >= 0 && blur <= 2, "`blur` must be 0, 1 or 2");
  constexpr std::size_t kMost = weakseg::LatticeFilter::kMostPlanes;
  const nb::gil_scoped_release release;
  weakseg::parallel_for(batch * ((planes + kMost - 1) / kMost), at_least_one(num_threads), [&] {
    return FilterWorker{lattices, values.data(), filtered.data(), planes, static_cast<weakseg::Blur>(blur)};
  });
}

using Kernel =
    std::tuple<In<std::int32_t, 3>, In<float, 3>, In<std::int32_t, 3>, In<std::int64_t, 1>, In<float, 2>, In<float, 2>>;

// Solvers for one to four vectors of classes, and for any number; only those in use hold memory.
struct MeanFieldWorkers {
  weakseg::Pooled<weakseg::MeanField<1>> one{};
  weakseg::Pooled<weakseg::MeanField<2>> two{};
  weakseg::Pooled<weakseg::MeanField<3>> three{};
  weakseg::Pooled<weakseg::MeanField<4>> four{};
  weakseg::Pooled<weakseg::MeanField<0>> any{};

  std::size_t run(const weakseg::MeanFieldProblem& problem, float* probabilities) {
    switch ((problem.classes + weakseg::kLanes - 1) / weakseg::kLanes) {
      case 1: return one->run(problem, probabilities);
      case 2: return two->run(problem, probabilities);
      case 3: return three->run(problem, probabilities);
      case 4: return four->run(problem, probabilities);
      default: return any->run(problem, probabilities);
    }
  }
};

void mean_field(const In<float, 3>& scores, const In<std::uint8_t, 2>& initial, const std::vector<Kernel>& kernels,
                int iterations, const Out<float, 3>& probabilities, const Out<std::int64_t, 1>& changed, bool watched,
                int num_threads) {
  const std::size_t batch = scores.shape(0), classes = scores.shape(1), pixels = scores.shape(2);
  require(classes >= 1 && classes <= 255, "`scores` must have 1 to 255 planes");
  require(iterations >= 0, "`iterations` must not be negative");
  require(probabilities.shape(0) == batch && probabilities.shape(1) == classes && probabilities.shape(2) == pixels &&
              changed.shape(0) == batch && initial.shape(0) == batch && initial.shape(1) == pixels,
          "`probabilities` must have the shape of `scores`, `initial` and `changed` its batch and pixels");
  std::vector<Lattices> lattices;
  for (const auto& [vertices, weights, neighbors, starts, before, after] : kernels) {
    lattices.push_back({vertices, weights, neighbors, starts});
    lattices.back().check(batch, pixels);
    for (const auto& factors : {before, after}) {
      require(factors.shape(0) == batch && factors.shape(1) == pixels, "factors of a kernel must be (B, N)");
    }
  }
  const nb::gil_scoped_release release;
  weakseg::parallel_for(batch, at_least_one(num_threads), [&] {
    return [&, workers = std::make_unique<MeanFieldWorkers>()](std::size_t b) {
      std::vector<weakseg::MeanFieldKernel> mine;
      for (std::size_t k = 0; k < kernels.size(); ++k) {
        const float *before = std::get<4>(kernels[k]).data(), *after = std::get<5>(kernels[k]).data();
        mine.push_back({lattices[k].of(b), before + b * pixels, after + b * pixels});
      }
      const std::size_t start = b * classes * pixels;
      weakseg::MeanFieldProblem problem;
      problem.pixels = pixels;
      problem.classes = classes;
      problem.scores = scores.data() + start;
      problem.initial = initial.data() + b * pixels;
      problem.iterations = static_cast<std::size_t>(iterations);
      problem.kernels = mine.data();
      problem.num_kernels = mine.size();
      problem.watched = watched;
      changed.data()[b] = static_cast<std::int64_t>(workers->run(problem, probabilities.data() + start));
    };
  });
}

}  // namespace

void bind_dense_crf(nb::module_& m) {
  m.def("build_lattices", &build_lattices, nb::arg("features"), nb::arg("valid"), nb::arg("vertices").noconvert(),
        nb::arg("weights").noconvert(), nb::arg("num_threads"),
        "Build the permutohedral lattices of a batch; write `vertices` and `weights` (B, N, D + 1).\n\n"
        "Returns the neighbors of each vertex (V, D + 1, 2) and the first vertex of each image (B + 1,).");
  m.def("filter_lattices", &filter_lattices, nb::arg("vertices"), nb::arg("weights"), nb::arg("neighbors"),
        nb::arg("starts"), nb::arg("values"), nb::arg("blur"), nb::arg("filtered").noconvert(), nb::arg("num_threads"),
        "Write to `filtered` the sums of `values` (B, C, N) over all pixels, weighted by the Gaussian of a lattice.\n\n"
        "`blur`: 0 forward, 1 adjoint, 2 the mean of both.");
  m.def("mean_field", &mean_field, nb::arg("scores"), nb::arg("initial"), nb::arg("kernels"), nb::arg("iterations"),
        nb::arg("probabilities").noconvert(), nb::arg("changed").noconvert(), nb::arg("watched"),
        nb::arg("num_threads"),
        "Run mean field in a dense CRF; write `probabilities` (B, K, N).\n\n"
        "Each kernel holds vertices, weights, neighbors and starts of its lattices, and factors (B, N) of the\n"
        "messages before and after it. Pixels start in their class `initial`, or where that is 255 in the softmax of\n"
        "their scores. If `watched`, `changed` (B,) counts the pixels whose best class the last iteration changed.");
}
