// The Python module `weakseg_lightning._native._core`.
#include "bindings.hpp"

namespace nb = nanobind;

NB_MODULE(_core, m) {
  // A daemon thread that is solving when the interpreter exits still holds its batch. That is no leak to warn users of.
  nb::set_leak_warnings(false);
  m.doc() = "Compiled core of weakseg_lightning.";
  bind_potts(m);
  bind_dense_crf(m);
  bind_constrained(m);
}
