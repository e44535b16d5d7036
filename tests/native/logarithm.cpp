// The logarithm against that of the standard library in double precision: one of every 97 normal floats, and all near 1.
#include "support/logarithm.hpp"

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>

namespace {

double relative_error(float x) {
  const double exact = std::log(static_cast<double>(x));
  return exact == 0 ? weakseg::log_of_positive(x) : std::abs(weakseg::log_of_positive(x) / exact - 1);
}

}  // namespace

int main() {
  double worst = 0;
  for (std::uint32_t bits = 0x00800000; bits < 0x7f800000; bits += 97) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    worst = std::fmax(worst, relative_error(x));
  }
  for (float x = 0.99F; x < 1.01F; x = std::nextafter(x, 2.0F)) worst = std::fmax(worst, relative_error(x));
  if (worst > 2e-7) std::fprintf(stderr, "relative error %g\n", worst);
  return worst > 2e-7 ? 1 : 0;
}
