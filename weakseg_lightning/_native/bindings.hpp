// What each folder adds to the Python module `weakseg_lightning._native._core`.
#pragma once

#include <nanobind/nanobind.h>

void bind_potts(nanobind::module_& m);
void bind_dense_crf(nanobind::module_& m);
void bind_constrained(nanobind::module_& m);
