// See dense_bindings.cpp.
#pragma once

#include <nanobind/nanobind.h>

void define_dense_bindings(nanobind::module_& m);
