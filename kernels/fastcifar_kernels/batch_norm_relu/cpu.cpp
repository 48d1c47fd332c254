#include "cpu.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "vectors.h"

// The channels of a pixel lie side by side. Sums are made a vector of channels at a time over a block of pixels, in
// float and in registers, and in double over blocks.

namespace fastcifar {
namespace {

constexpr int64_t kMaxChunks = 64;
constexpr int64_t kBlock = 64;  // pixels; of 96 channels, 24 KB

int64_t pixels_in_chunk(const NormShape& shape) {
  const int64_t blocks = (shape.pixels + kBlock - 1) / kBlock;
  return (blocks + kMaxChunks - 1) / kMaxChunks * kBlock;
}

typedef float Float8 __attribute__((vector_size(32)));

// Adds the two sums of a vector of channels over a block of pixels, which stay in registers, to total[0] and
// total[channels]. terms(pixel, first, second) adds one pixel's.
template <typename Vector, typename Terms>
INLINED void add_block(int64_t channels, int64_t begin, int64_t end, double* total, const Terms& terms) {
  constexpr int64_t kLanes = sizeof(Vector) / sizeof(float);
  Vector first[2] = {}, second[2] = {};  // two of each, so that an addition need not wait for the one before
  int64_t pixel = begin;
  for (; pixel + 2 <= end; pixel += 2) {
    terms(pixel, first[0], second[0]);
    terms(pixel + 1, first[1], second[1]);
  }
  if (pixel < end) terms(pixel, first[0], second[0]);
  float lanes[2 * kLanes];
  const Vector sums[2] = {first[0] + first[1], second[0] + second[1]};
  std::memcpy(lanes, sums, sizeof lanes);
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    total[lane] += lanes[lane];
    total[channels + lane] += lanes[kLanes + lane];
  }
}

// make(c, Vector{}) gives the terms of the channels from c on.
template <typename Make>
INLINED void chunk_sums(const NormShape& shape, int64_t begin, int64_t end, double* sums, const Make& make) {
  const int64_t channels = shape.channels, in_chunk = pixels_in_chunk(shape);
  constexpr int64_t kLanes = sizeof(Float8) / sizeof(float);
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    double* total = sums + chunk * 2 * channels;
    std::fill(total, total + 2 * channels, 0.0);
    const int64_t last = std::min((chunk + 1) * in_chunk, shape.pixels);
    for (int64_t block = chunk * in_chunk; block < last; block += kBlock) {
      const int64_t stop = std::min(block + kBlock, last);
      int64_t c = 0;
      for (; c + kLanes <= channels; c += kLanes) add_block<Float8>(channels, block, stop, total + c, make(c, Float8{}));
      for (; c < channels; ++c) add_block<float>(channels, block, stop, total + c, make(c, 0.0f));
    }
  }
}

template <bool kResidual>
INLINED void gradient_sums(const NormShape& shape, const float* grad, const float* x, const Relu& relu,
                           const float* mean, int64_t begin, int64_t end, double* sums) {
  chunk_sums(shape, begin, end, sums, [&](int64_t c, auto kind) __attribute__((always_inline)) {
    using Vector = decltype(kind);
    const Vector scale = load<Vector>(relu.scale + c), shift = load<Vector>(relu.shift + c);
    const Vector centre = load<Vector>(mean + c);
    return [=](int64_t pixel, Vector& first, Vector& second) __attribute__((always_inline)) {
      const int64_t place = pixel * shape.channels + c;
      const Vector value = load<Vector>(x + place);
      const Vector made = kResidual ? load<Vector>(relu.y + place) : value * scale + shift;
      const Vector g = made > 0.0f ? load<Vector>(grad + place) : Vector{};
      first += g;
      second += g * (value - centre);
    };
  });
}

// Calls write(place, c, Vector{}) for every vector of channels of every pixel.
template <typename Write>
INLINED void each_vector(const NormShape& shape, int64_t begin, int64_t end, const Write& write) {
  const int64_t channels = shape.channels, in_chunk = pixels_in_chunk(shape);
  constexpr int64_t kLanes = sizeof(Float8) / sizeof(float);
  for (int64_t pixel = begin * in_chunk; pixel < std::min(end * in_chunk, shape.pixels); ++pixel) {
    int64_t c = 0;
    for (; c + kLanes <= channels; c += kLanes) write(pixel * channels + c, c, Float8{});
    for (; c < channels; ++c) write(pixel * channels + c, c, 0.0f);
  }
}

template <bool kResidual>
INLINED void gradient(const NormShape& shape, const float* grad, const float* x, const Relu& relu, const float* slope,
                      const float* intercept, int64_t begin, int64_t end, float* dx, float* dresidual) {
  each_vector(shape, begin, end, [&](int64_t place, int64_t c, auto kind) __attribute__((always_inline)) {
    using Vector = decltype(kind);
    const Vector value = load<Vector>(x + place), scale = load<Vector>(relu.scale + c);
    const Vector made = kResidual ? load<Vector>(relu.y + place) : value * scale + load<Vector>(relu.shift + c);
    const Vector g = made > 0.0f ? load<Vector>(grad + place) : Vector{};
    store(dx + place, scale * g + load<Vector>(slope + c) * value + load<Vector>(intercept + c));
    if (kResidual) store(dresidual + place, g);
  });
}

}  // namespace

int64_t norm_chunks(const NormShape& shape) {
  const int64_t pixels = pixels_in_chunk(shape);
  return pixels == 0 ? 0 : (shape.pixels + pixels - 1) / pixels;
}

CLONED void norm_moments_cpu(const NormShape& shape, const float* x, const float* origin, int64_t begin, int64_t end,
                             double* sums) {
  chunk_sums(shape, begin, end, sums, [&](int64_t c, auto kind) __attribute__((always_inline)) {
    using Vector = decltype(kind);
    const Vector centre = load<Vector>(origin + c);
    return [=](int64_t pixel, Vector& first, Vector& second) __attribute__((always_inline)) {
      const Vector value = load<Vector>(x + pixel * shape.channels + c) - centre;
      first += value;
      second += value * value;
    };
  });
}

CLONED void norm_apply_cpu(const NormShape& shape, const float* x, const float* residual, const float* scale,
                           const float* shift, int64_t begin, int64_t end, float* y) {
  each_vector(shape, begin, end, [&](int64_t place, int64_t c, auto kind) __attribute__((always_inline)) {
    using Vector = decltype(kind);
    Vector value = load<Vector>(x + place) * load<Vector>(scale + c) + load<Vector>(shift + c);
    if (residual != nullptr) value += load<Vector>(residual + place);
    store(y + place, value > 0.0f ? value : Vector{});
  });
}

CLONED void norm_gradient_sums_cpu(const NormShape& shape, const float* grad, const float* x, const Relu& relu,
                                   const float* mean, int64_t begin, int64_t end, double* sums) {
  if (relu.y == nullptr) {
    gradient_sums<false>(shape, grad, x, relu, mean, begin, end, sums);
  } else {
    gradient_sums<true>(shape, grad, x, relu, mean, begin, end, sums);
  }
}

CLONED void norm_gradient_cpu(const NormShape& shape, const float* grad, const float* x, const Relu& relu,
                              const float* slope, const float* intercept, int64_t begin, int64_t end, float* dx,
                              float* dresidual) {
  if (relu.y == nullptr) {
    gradient<false>(shape, grad, x, relu, slope, intercept, begin, end, dx, dresidual);
  } else {
    gradient<true>(shape, grad, x, relu, slope, intercept, begin, end, dx, dresidual);
  }
}

}  // namespace fastcifar
