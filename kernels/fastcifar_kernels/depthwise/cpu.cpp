#include "cpu.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "vectors.h"

// A vector of channels after the other, each over a block of images, 48 KB or a single one.
//
// Input row i meets output row (i + dilation - k dilation) / stride through tap row k, where that is a row at all;
// columns likewise. Rows that meet the same tap rows make a run, and a run of rows crossed with a run of columns is a
// region without a condition inside: every output slope read there serves both gradients, the input's is written
// once, and the weight's stays in registers.

namespace fastcifar {
namespace {

constexpr int64_t kMaxChunks = 64;
constexpr int64_t kBlockBytes = 48 * 1024;  // of x, its gradient and the output's

typedef float Float8 __attribute__((vector_size(32)));

// Input rows (or columns) first, first + stride, ...
struct Run {
  int64_t first, count;
  int taps;
  int tap[3];
  int64_t output[3];  // the row that each tap ties the first to; the next one's is the next
};

int64_t images_in_chunk(const DepthwiseShape& shape) { return (shape.images + kMaxChunks - 1) / kMaxChunks; }

int64_t images_in_block(const DepthwiseShape& shape) {
  const int64_t pixels = 2 * shape.height * shape.width + shape.output_height() * shape.output_width();
  return std::max<int64_t>(1, kBlockBytes / (pixels * shape.channels * static_cast<int64_t>(sizeof(float))));
}

Run taps_of(int64_t row, int64_t outputs, const DepthwiseShape& shape) {
  Run run{row, 1, 0, {}, {}};
  for (int k = 0; k < 3; ++k) {
    const int64_t place = row + shape.dilation - k * shape.dilation;
    if (place < 0 || place % shape.stride != 0 || place / shape.stride >= outputs) continue;
    run.tap[run.taps] = k;
    run.output[run.taps++] = place / shape.stride;
  }
  return run;
}

// Every one of `size` rows (or columns) in just one run.
std::vector<Run> runs_of(int64_t size, int64_t outputs, const DepthwiseShape& shape) {
  std::vector<Run> runs;
  for (int64_t phase = 0; phase < std::min(shape.stride, size); ++phase) {
    for (int64_t row = phase; row < size; row += shape.stride) {
      const Run run = taps_of(row, outputs, shape);
      if (row > phase && run.taps == runs.back().taps && std::equal(run.tap, run.tap + 3, runs.back().tap)) {
        ++runs.back().count;
      } else {
        runs.push_back(run);
      }
    }
  }
  return runs;
}

// Memory from the first channel of a vector on.
struct Place {
  const float *grad, *x, *weight;
  float *dx, *dweight;
};

// A vector of channels of a region in each of `images` images.
template <typename Vector, int kRows, int kColumns>
INLINED void region(const DepthwiseShape& shape, const Run& rows, const Run& columns, int64_t images,
                    const Place& place) {
  constexpr int kTapsHere = kRows * kColumns;
  const int64_t channels = shape.channels, step = shape.stride * channels;
  const int64_t output_height = shape.output_height(), output_width = shape.output_width();
  Vector taps[kTapsHere + 1], sums[kTapsHere + 1];  // one more, since an array is never empty
  int64_t tap[kTapsHere + 1], output[kTapsHere + 1];
#pragma GCC unroll 9
  for (int t = 0; t < kTapsHere; ++t) {
    const int r = t / kColumns, c = t % kColumns;
    tap[t] = (rows.tap[r] * 3 + columns.tap[c]) * channels;
    output[t] = (rows.output[r] * output_width + columns.output[c]) * channels;
    taps[t] = load<Vector>(place.weight + tap[t]);
    sums[t] = Vector{};
  }
  for (int64_t n = 0; n < images; ++n) {
    for (int64_t r = 0; r < rows.count; ++r) {
      const int64_t row = n * shape.height + rows.first + r * shape.stride;
      const float* x = place.x + (row * shape.width + columns.first) * channels;
      float* dx = place.dx + (row * shape.width + columns.first) * channels;
      const float* grad = place.grad + (n * output_height + r) * output_width * channels;
      for (int64_t c = 0; c < columns.count; ++c, x += step, dx += step, grad += channels) {
        const Vector value = load<Vector>(x);
        Vector total{};
#pragma GCC unroll 9
        for (int t = 0; t < kTapsHere; ++t) {
          const Vector slope = load<Vector>(grad + output[t]);
          total += slope * taps[t];
          sums[t] += slope * value;
        }
        store(dx, total);
      }
    }
  }
#pragma GCC unroll 9
  for (int t = 0; t < kTapsHere; ++t) {
    store(place.dweight + tap[t], load<Vector>(place.dweight + tap[t]) + sums[t]);
  }
}

template <typename Vector, int kRows>
INLINED void regions_of(const DepthwiseShape& shape, const Run& rows, const std::vector<Run>& columns, int64_t images,
                        const Place& place) {
  for (const Run& run : columns) {
    if (run.taps == 0) region<Vector, kRows, 0>(shape, rows, run, images, place);
    if (run.taps == 1) region<Vector, kRows, 1>(shape, rows, run, images, place);
    if (run.taps == 2) region<Vector, kRows, 2>(shape, rows, run, images, place);
    if (run.taps == 3) region<Vector, kRows, 3>(shape, rows, run, images, place);
  }
}

template <typename Vector>
INLINED void image_block(const DepthwiseShape& shape, const std::vector<Run>& rows, const std::vector<Run>& columns,
                         int64_t images, const Place& place) {
  for (const Run& run : rows) {
    if (run.taps == 0) regions_of<Vector, 0>(shape, run, columns, images, place);
    if (run.taps == 1) regions_of<Vector, 1>(shape, run, columns, images, place);
    if (run.taps == 2) regions_of<Vector, 2>(shape, run, columns, images, place);
    if (run.taps == 3) regions_of<Vector, 3>(shape, run, columns, images, place);
  }
}

}  // namespace

int64_t depthwise_chunks(const DepthwiseShape& shape) {
  const int64_t images = images_in_chunk(shape);
  return images == 0 ? 0 : (shape.images + images - 1) / images;
}

CLONED void depthwise_backward_cpu(const DepthwiseShape& shape, const float* grad, const float* x, const float* weight,
                                   int64_t begin, int64_t end, float* dx, float* sums) {
  const std::vector<Run> rows = runs_of(shape.height, shape.output_height(), shape);
  const std::vector<Run> columns = runs_of(shape.width, shape.output_width(), shape);
  const int64_t channels = shape.channels, in_chunk = images_in_chunk(shape), in_block = images_in_block(shape);
  constexpr int64_t kLanes = sizeof(Float8) / sizeof(float);
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    float* dweight = sums + chunk * kTaps * channels;
    std::fill(dweight, dweight + kTaps * channels, 0.0f);
    const int64_t last = std::min((chunk + 1) * in_chunk, shape.images);
    for (int64_t image = chunk * in_chunk; image < last; image += in_block) {
      const int64_t images = std::min(in_block, last - image);
      const int64_t first = image * shape.height * shape.width * channels;
      const int64_t output = image * shape.output_height() * shape.output_width() * channels;
      const auto at = [&](int64_t c) {
        return Place{grad + output + c, x + first + c, weight + c, dx + first + c, dweight + c};
      };
      int64_t c = 0;
      for (; c + kLanes <= channels; c += kLanes) image_block<Float8>(shape, rows, columns, images, at(c));
      for (; c < channels; ++c) image_block<float>(shape, rows, columns, images, at(c));
    }
  }
}

}  // namespace fastcifar
