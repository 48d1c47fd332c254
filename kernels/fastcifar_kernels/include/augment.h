#pragma once

#include <cmath>
#include <cstdint>

#include "host_device.h"
#include "philox.h"

// One image's share of `augment`: what is drawn for it, and where its pixels come from. augment/__init__.py states
// the mathematics; the CPU and the CUDA sources include this file, so that both draw and sample alike.

namespace fastcifar {

constexpr int kSide = 32;                    // of a stored image, pixels
constexpr int kImageBytes = kSide * kSide * 3;
constexpr int kMinSize = 8, kMaxSize = 64;   // side of the output
constexpr int kDrawFields = 11;              // of the table of returned draws

struct AugmentSettings {
  uint64_t seed;
  int32_t size;                              // side of the output, kMinSize..kMaxSize
  float flip, affine, dropout, gray;         // probabilities
  float rotate_degrees, scale, shift;        // largest either way; shift in pixels of the stored image
  int32_t dropout_size;                      // side of the hole, pixels of the stored image
  int32_t by_axis;                           // albumentations 2's law: a scale for each axis, whole-pixel shifts
  int32_t reflect;                           // border: 1 reflect-101, 0 black
  float subtract[3], multiply[3];            // normalised = (level - subtract) * multiply
  float hole[3], gray_hole[3];               // normalised colour of the hole, before and after to-gray
};

struct AugmentDraws {
  bool flip, affine, dropout, gray;
  float angle_degrees, scale_x, scale_y, shift_x, shift_y;
  int32_t hole_x, hole_y;
};

HOST_DEVICE float unit(uint32_t word) { return static_cast<float>(word >> 8) * 0x1p-24f; }

HOST_DEVICE float symmetric(uint32_t word) { return 2.0f * unit(word) - 1.0f; }  // exact, however it is contracted

// 1 + v * reach with both roundings, where a compiler would contract them to one: float64 holds the sum exactly, and in
// two steps, since compilers know that one step equals the float32 sum.
HOST_DEVICE float factor(float v, float reach) {
  const float product = v * reach;
  return static_cast<float>(2.0 + (static_cast<double>(product) - 1.0));
}

HOST_DEVICE AugmentDraws draw(const AugmentSettings& settings, uint32_t epoch, int64_t index) {
  const uint32_t image = static_cast<uint32_t>(index);
  const Words coins = philox4x32(image, epoch, 0, 0, settings.seed);
  const Words moves = philox4x32(image, epoch, 1, 0, settings.seed);
  const Words holes = philox4x32(image, epoch, 2, 0, settings.seed);
  AugmentDraws drawn;
  drawn.flip = unit(coins.lane[0]) < settings.flip;
  drawn.affine = unit(coins.lane[1]) < settings.affine;
  drawn.dropout = unit(coins.lane[2]) < settings.dropout;
  drawn.gray = unit(coins.lane[3]) < settings.gray;
  const uint32_t places = kSide + 1 - settings.dropout_size;
  drawn.hole_x = static_cast<int32_t>((holes.lane[0] >> 8) * places >> 24);
  drawn.hole_y = static_cast<int32_t>((holes.lane[1] >> 8) * places >> 24);
  drawn.angle_degrees = drawn.shift_x = drawn.shift_y = 0.0f;
  drawn.scale_x = drawn.scale_y = 1.0f;
  if (drawn.affine) {
    drawn.angle_degrees = symmetric(moves.lane[0]) * settings.rotate_degrees;
    drawn.scale_x = drawn.scale_y = factor(symmetric(moves.lane[1]), settings.scale);
    drawn.shift_x = symmetric(moves.lane[2]) * settings.shift;
    drawn.shift_y = symmetric(moves.lane[3]) * settings.shift;
    if (settings.by_axis) {
      drawn.scale_y = factor(symmetric(holes.lane[2]), settings.scale);
      drawn.shift_x = truncf(drawn.shift_x);
      drawn.shift_y = truncf(drawn.shift_y);
    }
  }
  return drawn;
}

// One row of the table of returned draws.
HOST_DEVICE void write_draws(const AugmentDraws& drawn, float* row) {
  row[0] = drawn.flip;
  row[1] = drawn.affine;
  row[2] = drawn.angle_degrees;
  row[3] = drawn.scale_x;
  row[4] = drawn.scale_y;
  row[5] = drawn.shift_x;
  row[6] = drawn.shift_y;
  row[7] = drawn.dropout;
  row[8] = static_cast<float>(drawn.hole_x);
  row[9] = static_cast<float>(drawn.hole_y);
  row[10] = drawn.gray;
}

// Gray of a colour (ITU-R BT.601).
HOST_DEVICE float luma(float red, float green, float blue) { return red * 0.299f + green * 0.587f + blue * 0.114f; }

// Output pixel (column j, row i) to its place in the stored image: x = xx u(j) + xy u(i) + x0, and y alike, where
// u(k) = (k + 1/2) 32 / size - 16 is measured from the image's centre. Whole places are pixels' centres.
struct Motion {
  double xx, xy, x0, yx, yy, y0;
};

HOST_DEVICE Motion motion(const AugmentDraws& drawn) {
  Motion m{1.0, 0.0, 0.0, 0.0, 1.0, 0.0};
  if (drawn.affine) {
    double sine, cosine;
#ifdef __CUDA_ARCH__
    sincospi(static_cast<double>(drawn.angle_degrees) / 180, &sine, &cosine);  // needs no stack, unlike sincos
#else
    const double radians = static_cast<double>(drawn.angle_degrees) * (3.14159265358979323846 / 180);
    sine = std::sin(radians), cosine = std::cos(radians);
#endif
    const double along_x = 1 / static_cast<double>(drawn.scale_x), along_y = 1 / static_cast<double>(drawn.scale_y);
    m.xx = cosine * along_x, m.xy = -sine * along_x, m.yx = sine * along_y, m.yy = cosine * along_y;
    m.x0 = -(m.xx * drawn.shift_x + m.xy * drawn.shift_y);
    m.y0 = -(m.yx * drawn.shift_x + m.yy * drawn.shift_y);
  }
  if (drawn.flip) m.xx = -m.xx, m.xy = -m.xy, m.x0 = -m.x0;
  const double centre = (kSide - 1) / 2.0;
  m.x0 += centre, m.y0 += centre;
  return m;
}

HOST_DEVICE double from_centre(int32_t k, int32_t size) { return (k + 0.5) * kSide / size - kSide / 2; }

// First output pixel whose centre, (k + 1/2) 32 / size, is not left of (above) a hole's edge.
HOST_DEVICE int32_t first_pixel(int32_t edge, int32_t size) { return (size * edge + kSide / 2 - 1) / kSide; }

}  // namespace fastcifar
