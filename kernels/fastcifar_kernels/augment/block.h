#pragma once

#include <cstdint>
#include <cstring>

#include "augment.h"
#include "bilinear.h"

// The CUDA kernel's work in steps, each done by every thread of a block before the next: an image a block. They are
// plain functions of the thread's number, so that the tests run the same code on the host, thread after thread.

namespace fastcifar {

constexpr int kThreads = 256;
constexpr int kFramePitch = kSide + 3;  // one black pixel before the image, two after
constexpr int kChunk = 1024;            // output pixels between two barriers
constexpr int kPixelsAThread = kSide * kSide / kThreads;
static_assert(kPixelsAThread == 4, "fetch reads four pixels as three words");

// What the threads of a block share.
template <typename Number>
struct Block {
  alignas(16) Number output[kChunk * 3];
  uint32_t frame[kFramePitch * kFramePitch];  // pixels as bytes R, G, B, unused
  int32_t column_x[kMaxSize], column_y[kMaxSize], row_x[kMaxSize], row_y[kMaxSize];
  Motion motion;
  AugmentDraws draws;
  int32_t left, right, top, bottom;  // the hole in output pixels, empty where there is none
};

struct FourPixels {
  uint32_t word[3];
};

HOST_DEVICE FourPixels fetch(const uint8_t* image, int thread) {
  FourPixels pixels;
  std::memcpy(&pixels, __builtin_assume_aligned(image + thread * sizeof pixels, 4), sizeof pixels);
  return pixels;
}

// Byte `channel` of a pixel as 2^23 + level: one byte permutation. Differences of two such are exact levels' differences.
HOST_DEVICE float biased(uint32_t pixel, int channel) {
#ifdef __CUDA_ARCH__
  return __uint_as_float(__byte_perm(pixel, 0x4B000000u, 0x7650u + channel));
#else
  const uint32_t bits = 0x4B000000u | (pixel >> 8 * channel & 0xffu);
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
#endif
}

HOST_DEVICE float level(uint32_t pixel, int channel) { return biased(pixel, channel) - 8388608.0f; }

// Step 1: one thread draws; under a black border the others blacken the frame.
template <typename Number>
HOST_DEVICE void draw_step(Block<Number>& block, const AugmentSettings& settings, uint32_t epoch, int64_t index,
                           float* table, int thread) {
  if (!settings.reflect) {
    for (int place = thread; place < kFramePitch * kFramePitch; place += kThreads) block.frame[place] = 0;
  }
  if (thread != 0) return;
  const AugmentDraws drawn = draw(settings, epoch, index);
  block.draws = drawn;
  block.motion = motion(drawn);
  const int side = drawn.dropout ? settings.dropout_size : 0, size = settings.size;
  block.left = first_pixel(drawn.hole_x, size), block.right = first_pixel(drawn.hole_x + side, size);
  block.top = first_pixel(drawn.hole_y, size), block.bottom = first_pixel(drawn.hole_y + side, size);
  if (table) write_draws(drawn, table);
}

// Step 2: the image into the frame, and the columns' and rows' shares of places.
template <typename Number>
HOST_DEVICE void frame_step(Block<Number>& block, const AugmentSettings& settings, const FourPixels& pixels,
                            int thread) {
  const uint32_t a = pixels.word[0], b = pixels.word[1], c = pixels.word[2];
  const int first = thread * kPixelsAThread;
  uint32_t* place = block.frame + (first / kSide + 1) * kFramePitch + first % kSide + 1;
  place[0] = a;  // the fourth byte is never read
  place[1] = a >> 24 | b << 8;
  place[2] = b >> 16 | c << 16;
  place[3] = c >> 8;
  const bool reflect = settings.reflect;
  const Motion& m = block.motion;
  if (thread < settings.size) {
    const double u = from_centre(thread, settings.size);
    block.column_x[thread] = share(m.xx * u, reflect);
    block.column_y[thread] = share(m.yx * u, reflect);
  }
  const int row = thread - kMaxSize;
  if (row >= 0 && row < settings.size) {
    const double v = from_centre(row, settings.size);
    block.row_x[row] = share(m.xy * v + m.x0, reflect);
    block.row_y[row] = share(m.yy * v + m.y0, reflect);
  }
}

// The levels of output pixel (j, i), before hole and gray.
template <typename Number>
HOST_DEVICE void sample(const Block<Number>& block, bool reflect, int j, int i, float* colour) {
  const int32_t x = inside(block.column_x[j] + block.row_x[i], reflect);
  const int32_t y = inside(block.column_y[j] + block.row_y[i], reflect);
  const float share_x = fraction(x), share_y = fraction(y);
  const uint32_t* tap = block.frame + (whole(y) + 1) * kFramePitch + whole(x) + 1;
  const uint32_t top_left = tap[0], top_right = tap[1];
  const uint32_t bottom_left = tap[kFramePitch], bottom_right = tap[kFramePitch + 1];
  for (int c = 0; c < 3; ++c) {
    const float down_left = biased(bottom_left, c) - biased(top_left, c);
    const float down_right = biased(bottom_right, c) - biased(top_right, c);
    const float left = level(top_left, c) + share_y * down_left;
    const float right = level(top_right, c) + share_y * down_right;
    colour[c] = left + share_x * (right - left);
  }
}

// Step 3: the thread's pixels of a chunk. `narrow` turns a float into a Number.
template <typename Number, typename Narrow>
HOST_DEVICE void sample_step(Block<Number>& block, const AugmentSettings& settings, int chunk, int thread,
                             Narrow narrow) {
  const int size = settings.size, count = size * size;
  const int reciprocal = ((1 << 20) + size - 1) / size;  // pixel / size for every pixel below 64 * 64
  const bool rests = !block.draws.affine && size == kSide;
  for (int local = thread; local < kChunk; local += kThreads) {
    const int pixel = chunk * kChunk + local;
    if (pixel >= count) return;
    const int i = pixel * reciprocal >> 20, j = pixel - i * size;
    float colour[3];
    if (rests) {
      const uint32_t stored = block.frame[(i + 1) * kFramePitch + (block.draws.flip ? kSide - 1 - j : j) + 1];
      for (int c = 0; c < 3; ++c) colour[c] = level(stored, c);
    } else {
      sample(block, settings.reflect, j, i, colour);
    }
    if (block.draws.gray) colour[0] = colour[1] = colour[2] = luma(colour[0], colour[1], colour[2]);
    const bool in_hole = block.left <= j && j < block.right && block.top <= i && i < block.bottom;
    for (int c = 0; c < 3; ++c) {
      const float normalised = (colour[c] - settings.subtract[c]) * settings.multiply[c];
      const float filled = block.draws.gray ? settings.gray_hole[c] : settings.hole[c];
      block.output[local * 3 + c] = narrow(in_hole ? filled : normalised);
    }
  }
}

// Step 4: the chunk to the image's place in the batch, sixteen bytes at a time where images begin on such.
template <typename Number>
HOST_DEVICE void store_step(const Block<Number>& block, int size, int chunk, int thread, Number* image) {
  struct alignas(16) Sixteen {
    uint32_t word[4];
  };
  constexpr int each = sizeof(Sixteen) / sizeof(Number);
  const int left = (size * size - chunk * kChunk) * 3, count = left < kChunk * 3 ? left : kChunk * 3;
  Number* place = image + chunk * kChunk * 3;
  if (size * size * 3 % each == 0) {
    for (int k = thread; k < count / each; k += kThreads) {
      reinterpret_cast<Sixteen*>(place)[k] = reinterpret_cast<const Sixteen*>(block.output)[k];
    }
  } else {
    for (int k = thread; k < count; k += kThreads) place[k] = block.output[k];
  }
}

}  // namespace fastcifar
