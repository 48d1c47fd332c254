#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <tuple>
#include <vector>

#include "maps.h"
#include "strided_convolution/cpu.h"

// `strided_convolution_backward` around its kernel; strided_convolution/__init__.py holds the schema. What is checked
// here is what would read or write outside the tensors.

namespace fastcifar {

inline StridedShape strided_shape(const Tensor& grad, const Tensor& x, const Tensor& weight) {
  check_floats(grad, "grad");
  check_floats(x, "x");
  check_floats(weight, "weight");
  const StridedShape shape{x.size(0), x.size(1), x.size(2), x.size(3), weight.size(0)};
  if (shape.inputs < 1 || shape.height < 1 || shape.width < 1)
    throw std::invalid_argument("x: at least one channel and one pixel");
  if (shape.outputs < 1 || weight.size(1) != shape.inputs || weight.size(2) != 3 || weight.size(3) != 3)
    throw std::invalid_argument("weight: [K, C, 3, 3] for x of C channels");
  if (grad.size(0) != shape.images || grad.size(1) != shape.outputs || grad.size(2) != shape.output_height() ||
      grad.size(3) != shape.output_width())
    throw std::invalid_argument("grad: of the output's size");
  return shape;
}

// Chunks are added from the first to the last, into the first.
inline Tensor weight_gradient_from(std::vector<float>& sums, int64_t chunks, const StridedShape& shape,
                                   const Tensor& weight) {
  const StridedSums one = strided_sums(shape);
  for (int64_t chunk = 1; chunk < chunks; ++chunk) {
    for (int64_t e = 0; e < one.size(); ++e) sums[e] += sums[chunk * one.size() + e];
  }
  Tensor dweight = new_map(shape.outputs, shape.inputs, 3, 3, weight);
  float* to = floats_to_fill(dweight);
  for (int64_t o = 0; o < shape.outputs; ++o) {
    for (int64_t k = 0; k < 3; ++k, to += 3 * shape.inputs) {
      std::copy_n(sums.data() + (k * one.outputs + o) * one.columns, 3 * shape.inputs, to);
    }
  }
  return dweight;
}

inline std::tuple<Tensor, Tensor> strided_convolution_backward(Tensor grad, Tensor x, Tensor weight, bool needs_dx) {
  const StridedShape shape = strided_shape(grad, x, weight);
  const Tensor slopes = pixels_of(grad), pixels = pixels_of(x), filters = pixels_of(weight);
  const std::vector<float> taps = needs_dx ? strided_weight(shape, floats(filters)) : std::vector<float>();
  Tensor dx = needs_dx ? new_map(shape.images, shape.inputs, shape.height, shape.width, x)
                       : torch::stable::empty({0}, ScalarType::Float, std::nullopt, x.device());
  const float *slope = floats(slopes), *pixel = floats(pixels);
  float* result = needs_dx ? floats_to_fill(dx) : nullptr;
  const int64_t chunks = strided_chunks(shape);
  std::vector<float> sums(std::max<int64_t>(1, chunks) * strided_sums(shape).size());
  torch::stable::parallel_for(0, chunks, 1, [&](int64_t begin, int64_t end) {
    strided_backward_cpu(shape, slope, pixel, taps.data(), begin, end, result, sums.data());
  });
  return {dx, weight_gradient_from(sums, chunks, shape, weight)};
}

}  // namespace fastcifar
