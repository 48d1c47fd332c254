#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "augment.h"
#include "host_device.h"

// Places in fixed point: 21 fractional bits hold +-1024 pixels, and a place is the sum of a share of its column and
// one of its row, each rounded once: at most 5e-7 pixels off, with no rounding a pixel and none that differs by device.

namespace fastcifar {

constexpr int kFractionBits = 21;
constexpr int32_t kPixel = 1 << kFractionBits;
constexpr int32_t kLast = (kSide - 1) * kPixel;  // centre of the last pixel; the first one's is 0

HOST_DEVICE int32_t round_to_fixed(double place) {
#ifdef __CUDA_ARCH__
  return __double2int_rn(place * kPixel);
#else
  const double shifted = place * kPixel + 0x1.8p52;  // its low bits are the nearest whole number; vectorises
  int64_t bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  return static_cast<int32_t>(bits);
#endif
}

// A share of a place; under reflection less whole periods, so that the sum of two lies within one period of 0.
HOST_DEVICE int32_t share(double place, bool reflect) {
  if (reflect) {
    constexpr double period = 2 * (kSide - 1);
#ifdef __CUDA_ARCH__
    place -= period * rint(place * (1 / period));
#else
    place -= period * (place * (1 / period) + 0x1.8p52 - 0x1.8p52);
#endif
  }
  return round_to_fixed(place);
}

HOST_DEVICE int32_t magnitude(int32_t value) { return value < 0 ? -value : value; }

// The place's sum brought to where there are pixels: mirrored at the edge pixels' centres into 0..kLast, or, where all
// outside is black, held between the pixel before the first and the one after the last.
HOST_DEVICE int32_t inside(int32_t place, bool reflect) {
  if (reflect) return kLast - magnitude(kLast - magnitude(place));
  place = place < -kPixel ? -kPixel : place;
  return place > kLast + kPixel ? kLast + kPixel : place;
}

HOST_DEVICE int32_t whole(int32_t place) { return place >> kFractionBits; }

HOST_DEVICE float fraction(int32_t place) { return static_cast<float>(place & (kPixel - 1)) * (1.0f / kPixel); }

}  // namespace fastcifar
