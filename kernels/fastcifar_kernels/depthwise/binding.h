#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <tuple>
#include <vector>

#include "depthwise/cpu.h"
#include "maps.h"

// `depthwise_backward` around its kernel; depthwise/__init__.py holds the schema. What is checked here is what would
// read or write outside the tensors.

namespace fastcifar {

inline DepthwiseShape depthwise_shape(const Tensor& grad, const Tensor& x, const Tensor& weight, int64_t stride,
                                      int64_t dilation) {
  check_floats(grad, "grad");
  check_floats(x, "x");
  check_floats(weight, "weight");
  if (stride < 1 || dilation < 1) throw std::invalid_argument("stride, dilation: 1 or more");
  const DepthwiseShape shape{x.size(0), x.size(1), x.size(2), x.size(3), stride, dilation};
  if (shape.channels < 1 || shape.height < 1 || shape.width < 1)
    throw std::invalid_argument("x: at least one channel and one pixel");
  if (weight.size(0) != shape.channels || weight.size(1) != 1 || weight.size(2) != 3 || weight.size(3) != 3)
    throw std::invalid_argument("weight: [C, 1, 3, 3] for x of C channels");
  if (grad.size(0) != shape.images || grad.size(1) != shape.channels || grad.size(2) != shape.output_height() ||
      grad.size(3) != shape.output_width())
    throw std::invalid_argument("grad: of the output's size");
  return shape;
}

// [C, 1, 3, 3] -> [9, C]
inline std::vector<float> taps_of(const Tensor& weight) {
  const Tensor filters = torch::stable::contiguous(weight);
  const float* from = floats(filters);
  const int64_t channels = weight.size(0);
  std::vector<float> taps(kTaps * channels);
  for (int64_t c = 0; c < channels; ++c) {
    for (int64_t k = 0; k < kTaps; ++k) taps[k * channels + c] = from[c * kTaps + k];
  }
  return taps;
}

// [chunks, 9, C] -> [C, 1, 3, 3], added from the first chunk to the last into the first.
inline Tensor sum_of_chunks(std::vector<float>& sums, int64_t chunks, const Tensor& weight) {
  const int64_t channels = weight.size(0), count = kTaps * channels;
  for (int64_t chunk = 1; chunk < chunks; ++chunk) {
    for (int64_t e = 0; e < count; ++e) sums[e] += sums[chunk * count + e];
  }
  Tensor dweight = torch::stable::empty({channels, 1, 3, 3}, ScalarType::Float, std::nullopt, weight.device());
  float* to = floats_to_fill(dweight);
  for (int64_t c = 0; c < channels; ++c) {
    for (int64_t k = 0; k < kTaps; ++k) to[c * kTaps + k] = sums[k * channels + c];
  }
  return dweight;
}

inline std::tuple<Tensor, Tensor> depthwise_backward(Tensor grad, Tensor x, Tensor weight, int64_t stride,
                                                     int64_t dilation) {
  const DepthwiseShape shape = depthwise_shape(grad, x, weight, stride, dilation);
  const Tensor slopes = pixels_of(grad), pixels = pixels_of(x);
  const std::vector<float> taps = taps_of(weight);
  Tensor dx = new_map(shape.images, shape.channels, shape.height, shape.width, x);
  const float *slope = floats(slopes), *pixel = floats(pixels);
  float* result = floats_to_fill(dx);
  const int64_t chunks = depthwise_chunks(shape);
  std::vector<float> sums(std::max<int64_t>(1, chunks) * kTaps * shape.channels);
  torch::stable::parallel_for(0, chunks, 1, [&](int64_t begin, int64_t end) {
    depthwise_backward_cpu(shape, slope, pixel, taps.data(), begin, end, result, sums.data());
  });
  return {dx, sum_of_chunks(sums, chunks, weight)};
}

}  // namespace fastcifar
