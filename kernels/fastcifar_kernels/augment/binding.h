#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cstdint>
#include <stdexcept>
#include <tuple>
#include <vector>

#include "augment.h"
#include "store.h"

// What both bindings of `augment` do around their kernel. augment/__init__.py holds the operator's schema; what is
// checked here is what would read or write outside the tensors.

namespace fastcifar {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline Store store_of(ScalarType dtype) {
  if (dtype == ScalarType::Float) return Store::float32;
  if (dtype == ScalarType::Half) return Store::float16;
  if (dtype == ScalarType::BFloat16) return Store::bfloat16;
  throw std::invalid_argument("dtype: float32, float16 or bfloat16");
}

inline AugmentSettings settings_from(int64_t seed, double flip, double affine, double rotate_degrees, double shift,
                                     double scale, bool by_axis, bool reflect, double dropout, int64_t dropout_size,
                                     double gray, const std::vector<double>& hole_levels,
                                     const std::vector<double>& mean, const std::vector<double>& std, int64_t size) {
  if (mean.size() != 3 || std.size() != 3 || hole_levels.size() != 3)
    throw std::invalid_argument("mean, std, hole_levels: three numbers each");
  if (size < kMinSize || size > kMaxSize) throw std::invalid_argument("size: 8 to 64");
  if (dropout_size < 1 || dropout_size > kSide) throw std::invalid_argument("dropout_size: 1 to 32");
  AugmentSettings settings{};
  settings.seed = static_cast<uint64_t>(seed);
  settings.size = static_cast<int32_t>(size);
  settings.flip = static_cast<float>(flip);
  settings.affine = static_cast<float>(affine);
  settings.dropout = static_cast<float>(dropout);
  settings.gray = static_cast<float>(gray);
  settings.rotate_degrees = static_cast<float>(rotate_degrees);
  settings.scale = static_cast<float>(scale);
  settings.shift = static_cast<float>(shift * kSide);
  settings.dropout_size = static_cast<int32_t>(dropout_size);
  settings.by_axis = by_axis;
  settings.reflect = reflect;
  const float levels[3] = {static_cast<float>(hole_levels[0]), static_cast<float>(hole_levels[1]),
                           static_cast<float>(hole_levels[2])};
  const float gray_level = luma(levels[0], levels[1], levels[2]);
  for (int c = 0; c < 3; ++c) {
    settings.subtract[c] = static_cast<float>(mean[c]);
    settings.multiply[c] = 1.0f / static_cast<float>(std[c]);
    settings.hole[c] = (levels[c] - settings.subtract[c]) * settings.multiply[c];
    settings.gray_hole[c] = (gray_level - settings.subtract[c]) * settings.multiply[c];
  }
  return settings;
}

inline void check_inputs(const Tensor& images, const Tensor& indices, const Tensor& epoch) {
  const bool right = images.scalar_type() == ScalarType::Byte && images.dim() == 4 && images.size(1) == kSide &&
                     images.size(2) == kSide && images.size(3) == 3 && images.is_contiguous();
  if (!right) throw std::invalid_argument("images: contiguous uint8 [N, 32, 32, 3]");
  if (indices.scalar_type() != ScalarType::Long || indices.dim() != 1 || !indices.is_contiguous())
    throw std::invalid_argument("indices: contiguous int64 [B]");
  if (epoch.scalar_type() != ScalarType::Long || epoch.numel() != 1)
    throw std::invalid_argument("epoch: one int64");
}

// [count, 3, size, size] in channels_last, and [count or 0, kDrawFields].
inline std::tuple<Tensor, Tensor> allocate(const Tensor& images, int64_t count, int64_t size, ScalarType dtype,
                                           bool return_draws) {
  using torch::headeronly::MemoryFormat;
  Tensor output = torch::stable::empty({count, 3, size, size}, dtype, std::nullopt, images.device(), std::nullopt,
                                       MemoryFormat::ChannelsLast);
  Tensor draws = torch::stable::empty({return_draws ? count : 0, kDrawFields}, ScalarType::Float, std::nullopt,
                                      images.device());
  return {output, draws};
}

}  // namespace fastcifar
