#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "batch_norm_relu/cpu.h"
#include "maps.h"

// The operators around their kernels; batch_norm_relu/__init__.py holds the schema. What is checked here is what would
// read or write outside the tensors.

namespace fastcifar {

// A map's values in the order N, H, W, C.
inline Tensor rows_of(const Tensor& tensor, const Tensor& like, const char* name) {
  check_floats(tensor, name);
  for (int64_t d = 0; d < 4; ++d) {
    if (tensor.size(d) != like.size(d)) throw std::invalid_argument(std::string(name) + ": another shape than x");
  }
  return pixels_of(tensor);
}

inline std::vector<float> channels_of(const Tensor& tensor, int64_t count, const char* name) {
  if (tensor.scalar_type() != ScalarType::Float || tensor.dim() != 1 || tensor.size(0) != count)
    throw std::invalid_argument(std::string(name) + ": float32, one value a channel");
  const Tensor held = torch::stable::contiguous(tensor);
  const float* from = floats(held);
  return {from, from + count};
}

inline NormShape norm_shape(const Tensor& x) {
  if (x.dim() != 4) throw std::invalid_argument("x: float32 in four dimensions");
  const NormShape shape{x.size(0) * x.size(2) * x.size(3), x.size(1)};
  if (shape.pixels < 1 || shape.channels < 1) throw std::invalid_argument("x: at least one pixel and one channel");
  return shape;
}

inline Tensor map_like(const Tensor& x) { return new_map(x.size(0), x.size(1), x.size(2), x.size(3), x); }

inline Tensor channels_from(const std::vector<float>& values, const Tensor& like) {
  Tensor tensor = torch::stable::empty({static_cast<int64_t>(values.size())}, ScalarType::Float, std::nullopt,
                                       like.device());
  std::copy(values.begin(), values.end(), static_cast<float*>(tensor.data_ptr()));
  return tensor;
}

// What a channel's values are multiplied by, and what is added then; from the rounded moments alone, so that the
// backward pass finds the very same.
struct Affine {
  std::vector<float> scale, shift;

  Affine(const std::vector<float>& gain, const std::vector<float>& offset, const std::vector<float>& mean,
         const std::vector<float>& variance, double epsilon) {
    for (size_t c = 0; c < gain.size(); ++c) {
      const double factor = gain[c] / std::sqrt(static_cast<double>(variance[c]) + epsilon);
      scale.push_back(static_cast<float>(factor));
      shift.push_back(static_cast<float>(offset[c] - mean[c] * factor));
    }
  }
};

// [chunks, 2, C] -> [2, C], added from the first chunk to the last.
inline std::vector<double> sum_of_chunks(const std::vector<double>& sums, int64_t chunks, int64_t channels) {
  std::vector<double> total(2 * channels, 0.0);
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    for (int64_t c = 0; c < 2 * channels; ++c) total[c] += sums[chunk * 2 * channels + c];
  }
  return total;
}

inline std::tuple<Tensor, Tensor, Tensor> batch_norm_relu(Tensor x, std::optional<Tensor> residual, Tensor weight,
                                                          Tensor bias, double epsilon) {
  const NormShape shape = norm_shape(x);
  const int64_t channels = shape.channels, chunks = norm_chunks(shape);
  const Tensor pixels = rows_of(x, x, "x");
  const Tensor added = residual ? rows_of(*residual, x, "residual") : pixels;
  const std::vector<float> gain = channels_of(weight, channels, "weight"), offset = channels_of(bias, channels, "bias");
  const float* from = floats(pixels);
  const std::vector<float> origin(from, from + channels);  // near the mean, so that no digits are lost in the squares
  std::vector<double> sums(chunks * 2 * channels);
  torch::stable::parallel_for(0, chunks, 1, [&](int64_t begin, int64_t end) {
    norm_moments_cpu(shape, from, origin.data(), begin, end, sums.data());
  });
  const std::vector<double> total = sum_of_chunks(sums, chunks, channels);
  std::vector<float> mean(channels), variance(channels);
  for (int64_t c = 0; c < channels; ++c) {
    const double apart = total[c] / static_cast<double>(shape.pixels);
    const double square = total[channels + c] / static_cast<double>(shape.pixels);
    mean[c] = static_cast<float>(origin[c] + apart);
    variance[c] = static_cast<float>(std::max(0.0, square - apart * apart));
  }
  const Affine affine(gain, offset, mean, variance, epsilon);
  Tensor y = map_like(x);
  float* to = static_cast<float*>(y.data_ptr());
  const float* more = residual ? floats(added) : nullptr;
  torch::stable::parallel_for(0, chunks, 1, [&](int64_t begin, int64_t end) {
    norm_apply_cpu(shape, from, more, affine.scale.data(), affine.shift.data(), begin, end, to);
  });
  return {y, channels_from(mean, x), channels_from(variance, x)};
}

inline std::tuple<Tensor, Tensor, Tensor, Tensor> batch_norm_relu_backward(Tensor grad, Tensor x,
                                                                           std::optional<Tensor> y, Tensor weight,
                                                                           Tensor bias, Tensor mean, Tensor variance,
                                                                           double epsilon) {
  const NormShape shape = norm_shape(x);
  const int64_t channels = shape.channels, chunks = norm_chunks(shape);
  const Tensor slopes = rows_of(grad, x, "grad"), pixels = rows_of(x, x, "x");
  const Tensor result = y ? rows_of(*y, x, "y") : pixels;
  const std::vector<float> gain = channels_of(weight, channels, "weight"), offset = channels_of(bias, channels, "bias");
  const std::vector<float> centre = channels_of(mean, channels, "mean");
  const std::vector<float> spread = channels_of(variance, channels, "variance");
  const Affine affine(gain, offset, centre, spread, epsilon);
  const Relu relu{affine.scale.data(), affine.shift.data(), y ? floats(result) : nullptr};
  std::vector<double> sums(chunks * 2 * channels);
  torch::stable::parallel_for(0, chunks, 1, [&](int64_t begin, int64_t end) {
    norm_gradient_sums_cpu(shape, floats(slopes), floats(pixels), relu, centre.data(), begin, end, sums.data());
  });
  const std::vector<double> total = sum_of_chunks(sums, chunks, channels);
  std::vector<float> slope(channels), intercept(channels), dweight(channels), dbias(channels);
  const double count = static_cast<double>(shape.pixels);
  for (int64_t c = 0; c < channels; ++c) {
    const double inverse = 1.0 / std::sqrt(static_cast<double>(spread[c]) + epsilon), factor = gain[c] * inverse;
    const double along = -factor * inverse * inverse * total[channels + c] / count;
    slope[c] = static_cast<float>(along);
    intercept[c] = static_cast<float>(-factor * total[c] / count - along * centre[c]);
    dweight[c] = static_cast<float>(inverse * total[channels + c]);
    dbias[c] = static_cast<float>(total[c]);
  }
  Tensor dx = map_like(x);
  // Without a residual nothing is written to it.
  Tensor dresidual = y ? map_like(x) : torch::stable::empty({0}, ScalarType::Float, std::nullopt, x.device());
  float* to = static_cast<float*>(dx.data_ptr());
  float* more = y ? static_cast<float*>(dresidual.data_ptr()) : nullptr;
  torch::stable::parallel_for(0, chunks, 1, [&](int64_t begin, int64_t end) {
    norm_gradient_cpu(shape, floats(slopes), floats(pixels), relu, slope.data(), intercept.data(), begin, end, to, more);
  });
  return {dx, dresidual, channels_from(dweight, x), channels_from(dbias, x)};
}

}  // namespace fastcifar
