// The logarithm against that of the standard library in double precision: one of every 97 normal floats, and all near 1.
#include "support/logarithm.hpp"

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>

namespace {

double relative_error(float x) {
  const double exact = std::log(static_cast<double>(x));
  return std::abs(exact == 0 ? weakseg::log_of_positive(x) : weakseg::log_of_positive(x) / exact - 1);
}

// Keeps what is not a number, too.
void keep_greater(double& worst, double error) {
  if (!(error <= worst)) worst = error;
}

}  // namespace

int main() {
  double worst = 0;
  for (std::uint32_t bits = 0x00800000; bits < 0x7f800000; bits += 97) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    keep_greater(worst, relative_error(x));
  }
  for (float x = 0.99F; x < 1.01F; x = std::nextafter(x, 2.0F)) keep_greater(worst, relative_error(x));
  if (worst <= 2e-7) return 0;
  std::fprintf(stderr, "relative error %g\n", worst);
  return 1;
}
