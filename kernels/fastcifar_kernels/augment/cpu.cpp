#include "cpu.h"

#include <cstdint>
#include <cstring>

#include "augment.h"
#include "bilinear.h"
#include "vectors.h"

// One thread's images, one after the other, each from its 3 KB in the data set to its batch row within L1.
//
// An image that moves is normalised into a frame of black pixels; then a blend of four pixels is two 32-byte loads
// (a pixel and its right neighbour, from two rows), one vertical blend, one shuffle and one horizontal blend.

#ifdef __clang__
#define SHUFFLE(vector, Mask, ...) __builtin_shufflevector(vector, vector, __VA_ARGS__)
#else
#define SHUFFLE(vector, Mask, ...) __builtin_shuffle(vector, Mask{__VA_ARGS__})
#endif

namespace fastcifar {
namespace {

constexpr int kRow = kSide * 3;              // levels of a stored row
constexpr int kPitch = (kSide + 3) * 3;      // of the frame: one black pixel before, two after
constexpr int kFrame = (kSide + 3) * kPitch + 8;  // and what the last load reads beyond
constexpr int kOrigin = kPitch + 3;          // the image's first pixel in the frame

typedef float Float4 __attribute__((vector_size(16)));
typedef float Float8 __attribute__((vector_size(32)));
typedef int32_t Int8 __attribute__((vector_size(32)));
typedef uint8_t Byte16 __attribute__((vector_size(16)));

// What no image of the batch changes, and room to work.
struct Workspace {
  float subtract[kRow], multiply[kRow];
  double from_centre[kMaxSize];
  int32_t column_x[kMaxSize], column_y[kMaxSize], row_x[kMaxSize], row_y[kMaxSize];
  int64_t offset[kMaxSize];  // of a pixel's first tap from the frame's origin, bytes
  float share_x[kMaxSize], share_y[kMaxSize];
  float frame[kFrame];
  float pixels[kMaxSize * kMaxSize * 3 + 1];  // of the output, where they cannot go there at once
};

INLINED void prepare(const AugmentSettings& settings, Workspace& work) {
  for (int e = 0; e < kRow; ++e) {
    work.subtract[e] = settings.subtract[e % 3];
    work.multiply[e] = settings.multiply[e % 3];
  }
  for (int e = 0; e < kFrame; ++e) work.frame[e] = (0.0f - settings.subtract[e % 3]) * settings.multiply[e % 3];
  for (int k = 0; k < settings.size; ++k) work.from_centre[k] = from_centre(k, settings.size);
}

INLINED void normalise(const Workspace& work, const uint8_t* levels, bool gray, float* row) {
  if (!gray) {
    for (int e = 0; e < kRow; ++e) row[e] = (static_cast<float>(levels[e]) - work.subtract[e]) * work.multiply[e];
    return;
  }
  for (int p = 0; p < kSide; ++p) {
    const float level = luma(levels[3 * p], levels[3 * p + 1], levels[3 * p + 2]);
    for (int c = 0; c < 3; ++c) row[3 * p + c] = (level - work.subtract[c]) * work.multiply[c];
  }
}

// The row's pixels from right to left: five by one shuffle, the last two by hand.
INLINED void mirror_row(const uint8_t* levels, uint8_t* mirrored) {
#pragma GCC unroll 6
  for (int p = 0; p < 30; p += 5) {
    Byte16 five;
    std::memcpy(&five, levels + kRow - 16 - 3 * p, sizeof five);
    five = SHUFFLE(five, Byte16, 13, 14, 15, 10, 11, 12, 7, 8, 9, 4, 5, 6, 1, 2, 3, 0);
    std::memcpy(mirrored + 3 * p, &five, sizeof five);
  }
  for (int c = 0; c < 3; ++c) mirrored[90 + c] = levels[3 + c], mirrored[93 + c] = levels[c];
}

INLINED int32_t bits_of(float value) {
  int32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

INLINED float float_of(int32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// To the nearest, ties to even, as torch rounds. Signed integers, since AVX2 compares no others.
INLINED uint16_t to_bfloat16(float value) {
  const int32_t bits = bits_of(value), size = bits & 0x7fffffff;
  const int32_t nearest = (size + 0x7fff + (size >> 16 & 1)) >> 16;
  return static_cast<uint16_t>((size > 0x7f800000 ? 0x7fc0 : nearest) | (bits >> 16 & 0x8000));
}

INLINED uint16_t to_float16(float value) {
  const int32_t bits = bits_of(value), size = bits & 0x7fffffff;
  const int32_t normal = (size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13;
  const int32_t small = bits_of(float_of(size) + 0.5f) - 0x3f000000;  // the addition rounds to multiples of 2^-24
  const int32_t large = size > 0x7f800000 ? 0x7e00 : 0x7c00;
  const int32_t half = size < 0x38800000 ? small : size < 0x477ff000 ? normal : large;
  return static_cast<uint16_t>(half | (bits >> 16 & 0x8000));
}

// Output pixels first..last - 1 of the row whose places lie in `work`; writes a float beyond the last.
INLINED void blend(const Workspace& work, int first, int last, float* row) {
  const char* origin = reinterpret_cast<const char*>(work.frame + kOrigin);
#pragma GCC unroll 4
  for (int j = first; j < last; ++j) {
    Float8 top, bottom;
    std::memcpy(&top, origin + work.offset[j], sizeof top);
    std::memcpy(&bottom, origin + work.offset[j] + kPitch * sizeof(float), sizeof bottom);
    const Float8 left = top + work.share_y[j] * (bottom - top);
    const Float8 right = SHUFFLE(left, Int8, 3, 4, 5, 6, 7, 7, 7, 7);
    const Float8 pixel = left + work.share_x[j] * (right - left);
    std::memcpy(row + 3 * j, &pixel, sizeof(Float4));  // the next pixel overwrites the fourth
  }
}

struct Hole {
  int left, right, top, bottom;  // output pixels; empty where the image has none
  const float* colour;
};

INLINED void fill(float* row, int first, int last, const float* colour) {
  for (int j = first; j < last; ++j) {
    for (int c = 0; c < 3; ++c) row[3 * j + c] = colour[c];
  }
}

// A row of the image at hand, and the same row of the next one on its way from memory.
INLINED void normalise_row(const Workspace& work, const uint8_t* levels, const uint8_t* next, bool gray, float* row) {
  __builtin_prefetch(next);
  __builtin_prefetch(next + kRow - 1);
  normalise(work, levels, gray, row);
}

// Writes a float beyond the last pixel.
INLINED void sample(const AugmentSettings& settings, const AugmentDraws& drawn, const uint8_t* image,
                    const uint8_t* next, const Hole& hole, Workspace& work, float* pixels) {
  const int size = settings.size;
  const bool reflect = settings.reflect;
  for (int i = 0; i < kSide; ++i) {
    const int row = i * kRow;
    normalise_row(work, image + row, next + row, drawn.gray, work.frame + kOrigin + i * kPitch);
  }
  const Motion m = motion(drawn);
  for (int k = 0; k < size; ++k) {
    work.column_x[k] = share(m.xx * work.from_centre[k], reflect);
    work.column_y[k] = share(m.yx * work.from_centre[k], reflect);
    work.row_x[k] = share(m.xy * work.from_centre[k] + m.x0, reflect);
    work.row_y[k] = share(m.yy * work.from_centre[k] + m.y0, reflect);
  }
  for (int i = 0; i < size; ++i) {
    for (int j = 0; j < size; ++j) {
      const int32_t x = inside(work.column_x[j] + work.row_x[i], reflect);
      const int32_t y = inside(work.column_y[j] + work.row_y[i], reflect);
      work.offset[j] = (whole(y) * kPitch + whole(x) * 3) * static_cast<int32_t>(sizeof(float));
      work.share_x[j] = fraction(x);
      work.share_y[j] = fraction(y);
    }
    float* row = pixels + i * size * 3;
    const bool crosses = hole.top <= i && i < hole.bottom;
    blend(work, 0, crosses ? hole.left : size, row);
    if (crosses) {
      blend(work, hole.right, size, row);
      fill(row, hole.left, hole.right, hole.colour);
    }
  }
}

// No motion but a flip, and the stored size: pixels keep their values.
INLINED void copy(const AugmentDraws& drawn, const uint8_t* image, const uint8_t* next, const Hole& hole,
                  const Workspace& work, float* pixels) {
  uint8_t mirrored[kRow];
  for (int i = 0; i < kSide; ++i) {
    const uint8_t* levels = image + i * kRow;
    if (drawn.flip) {
      mirror_row(levels, mirrored);
      levels = mirrored;
    }
    float* row = pixels + i * kRow;
    normalise_row(work, levels, next + i * kRow, drawn.gray, row);
    if (hole.top <= i && i < hole.bottom) fill(row, hole.left, hole.right, hole.colour);
  }
}

INLINED void narrow(const float* pixels, int count, Store store, int64_t start, void* output) {
  if (store == Store::float32) {
    std::memcpy(static_cast<float*>(output) + start, pixels, count * sizeof(float));
  } else if (store == Store::float16) {
    uint16_t* place = static_cast<uint16_t*>(output) + start;
    for (int e = 0; e < count; ++e) place[e] = to_float16(pixels[e]);
  } else {
    uint16_t* place = static_cast<uint16_t*>(output) + start;
    for (int e = 0; e < count; ++e) place[e] = to_bfloat16(pixels[e]);
  }
}

}  // namespace

CLONED void augment_cpu(const AugmentSettings& settings, uint32_t epoch, const uint8_t* images, const int64_t* indices,
                        int64_t begin, int64_t end, void* output, Store store, float* draws) {
  Workspace work;
  prepare(settings, work);
  const int size = settings.size, count = size * size * 3;
  for (int64_t b = begin; b < end; ++b) {
    const uint8_t* image = images + indices[b] * kImageBytes;
    const uint8_t* next = b + 1 < end ? images + indices[b + 1] * kImageBytes : image;
    const AugmentDraws drawn = draw(settings, epoch, indices[b]);
    if (draws) write_draws(drawn, draws + b * kDrawFields);
    Hole hole{0, 0, 0, 0, drawn.gray ? settings.gray_hole : settings.hole};
    if (drawn.dropout) {
      hole.left = first_pixel(drawn.hole_x, size), hole.right = first_pixel(drawn.hole_x + settings.dropout_size, size);
      hole.top = first_pixel(drawn.hole_y, size), hole.bottom = first_pixel(drawn.hole_y + settings.dropout_size, size);
    }
    // What lies beyond the last image may be another thread's; beyond the others it is written next.
    const bool direct = store == Store::float32 && b + 1 < end;
    float* pixels = direct ? static_cast<float*>(output) + b * count : work.pixels;
    if (drawn.affine || size != kSide) {
      sample(settings, drawn, image, next, hole, work, pixels);
    } else {
      copy(drawn, image, next, hole, work, pixels);
    }
    if (!direct) narrow(pixels, count, store, b * count, output);
  }
}

}  // namespace fastcifar
