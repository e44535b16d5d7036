// Bindings of the constrained solvers' steps.
#include "bindings.hpp"

#include <cstddef>
#include <initializer_list>

#include "constrained/box_quadratic.hpp"
#include "constrained/label_moments.hpp"
#include "constrained/newton_direction.hpp"
#include "support/arrays.hpp"
#include "support/batch_scheduler.hpp"

namespace {

// Checks the arrays of a batch of small problems: vectors (B, C) and matrices (B, C, C).
void require_rows(std::size_t batch, std::size_t rows, const In<double, 3>& hessian,
                  std::initializer_list<const In<double, 2>*> arrays) {
  require(hessian.shape(0) == batch && hessian.shape(1) == rows && hessian.shape(2) == rows,
          "`hessian` must be (B, C, C)");
  for (const auto* array : arrays) {
    require(array->shape(0) == batch && array->shape(1) == rows, "all arrays of rows must be (B, C)");
  }
}

void box_quadratic(const In<double, 2>& gradient, const In<double, 3>& hessian, const In<double, 2>& lower,
                   const In<double, 2>& upper, const Out<double, 2>& step) {
  const std::size_t batch = gradient.shape(0), rows = gradient.shape(1);
  require_rows(batch, rows, hessian, {&lower, &upper});
  require(step.shape(0) == batch && step.shape(1) == rows, "`step` must be (B, C)");
  const nb::gil_scoped_release release;
  weakseg::BoxQuadratic solver;
  for (std::size_t b = 0; b < batch; ++b) {
    const auto of = [&](const auto& array) { return array.data() + b * rows; };
    solver.solve({rows, of(gradient), hessian.data() + b * rows * rows, of(lower), of(upper)}, of(step));
  }
}

void newton_direction(const In<double, 2>& target, const In<double, 2>& least, const In<double, 2>& span,
                      const In<double, 2>& upper, const In<double, 1>& softness, const In<double, 2>& point,
                      const In<double, 2>& gradient, const In<double, 3>& hessian, double margin,
                      const Out<double, 2>& step, const Out<double, 1>& slope) {
  const std::size_t batch = gradient.shape(0), rows = gradient.shape(1);
  require_rows(batch, rows, hessian, {&target, &least, &span, &upper, &point});
  require(step.shape(0) == batch && step.shape(1) == rows, "`step` must be (B, C)");
  require(softness.shape(0) == batch && slope.shape(0) == batch, "`softness` and `slope` must be (B,)");
  const nb::gil_scoped_release release;
  weakseg::NewtonDirection direction;
  for (std::size_t b = 0; b < batch; ++b) {
    const auto of = [&](const auto& array) { return array.data() + b * rows; };
    weakseg::DualPoint dual{rows, of(target), of(least), of(span), of(upper), softness.data()[b]};
    dual.point = of(point);
    dual.gradient = of(gradient);
    dual.hessian = hessian.data() + b * rows * rows;
    slope.data()[b] = direction.find(dual, margin, of(step));
  }
}

void label_moments(const In<float, 3>& odds, const In<double, 2>& weights, const Out<double, 3>& sums,
                   int num_threads) {
  const std::size_t batch = odds.shape(0), classes = odds.shape(1), pixels = odds.shape(2);
  require(weights.shape(0) == batch && weights.shape(1) == classes, "`weights` must be (B, K), `odds` being (B, K, N)");
  require(sums.shape(0) == batch && sums.shape(1) == classes && sums.shape(2) == classes + 1,
          "`sums` must be (B, K, K + 1), `odds` being (B, K, N)");
  const auto job = [&, moments = weakseg::LabelMoments()](std::size_t b) mutable {
    moments.sum({classes, pixels, odds.data() + b * classes * pixels, weights.data() + b * classes},
                sums.data() + b * classes * (classes + 1));
  };
  const std::size_t threads = at_least_one(num_threads);
  const nb::gil_scoped_release release;
  weakseg::parallel_for(batch, threads, [&] { return job; });
}

}  // namespace

void bind_constrained(nb::module_& m) {
  m.def("box_quadratic", &box_quadratic, nb::arg("gradient"), nb::arg("hessian"), nb::arg("lower"), nb::arg("upper"),
        nb::arg("step").noconvert(),
        "Maximise `gradient d - d hessian d / 2` in the box for each image of a batch; write `step` (B, C).");
  m.def("newton_direction", &newton_direction, nb::arg("target"), nb::arg("least"), nb::arg("span"), nb::arg("upper"),
        nb::arg("softness"), nb::arg("point"), nb::arg("gradient"), nb::arg("hessian"), nb::arg("margin"),
        nb::arg("step").noconvert(), nb::arg("slope").noconvert(),
        "Find ascent directions of Newton's method for the duals (`Dual`) of a batch; write `step` (B, C), and to\n"
        "`slope` (B,) the slopes along it.");
  m.def("label_moments", &label_moments, nb::arg("odds"), nb::arg("weights"), nb::arg("sums").noconvert(),
        nb::arg("num_threads"),
        "Sum over the pixels of the distributions `odds * weights / their sum` the products of all classes and, in\n"
        "the last column, each class; write `sums` (B, K, K + 1).");
}
