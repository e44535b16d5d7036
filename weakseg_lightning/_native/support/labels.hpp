// Labels of pixels.
#pragma once

#include <cstdint>

namespace weakseg {

constexpr std::uint8_t kVoid = 255;  // no label: padding, and unlabelled pixels

}  // namespace weakseg
