#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cstdint>
#include <stdexcept>
#include <string>

// Maps: float32 [N, C, H, W] whose channels lie side by side.

namespace fastcifar {

using torch::headeronly::MemoryFormat;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline void check_floats(const Tensor& tensor, const char* name) {
  if (tensor.scalar_type() != ScalarType::Float || tensor.dim() != 4)
    throw std::invalid_argument(std::string(name) + ": float32 in four dimensions");
}

// Its values in the order N, H, W, C; whatever torch then says of the strides of dimensions of length 1.
inline Tensor pixels_of(const Tensor& tensor) { return torch::stable::contiguous(tensor, MemoryFormat::ChannelsLast); }

inline const float* floats(const Tensor& tensor) { return static_cast<const float*>(tensor.data_ptr()); }

inline float* floats_to_fill(const Tensor& tensor) { return static_cast<float*>(tensor.data_ptr()); }

inline Tensor new_map(int64_t images, int64_t channels, int64_t height, int64_t width, const Tensor& like) {
  return torch::stable::empty({images, channels, height, width}, ScalarType::Float, std::nullopt, like.device(),
                              std::nullopt, MemoryFormat::ChannelsLast);
}

}  // namespace fastcifar
