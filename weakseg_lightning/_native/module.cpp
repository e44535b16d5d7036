// The Python module `weakseg_lightning._native._core`.
#include "bindings.hpp"

NB_MODULE(_core, m) {
  m.doc() = "Compiled core of weakseg_lightning.";
  bind_potts(m);
  bind_dense_crf(m);
  bind_constrained(m);
}
