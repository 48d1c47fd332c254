#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "sgd_ema.h"

// What both bindings of `sgd_ema` do around their kernel: lists of tensors become a table, and what would read or
// write outside a tensor is refused. sgd_ema/__init__.py holds the operator's schema.

namespace fastcifar {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

static_assert(sizeof(Group) == 3 * sizeof(float), "groups: float32 [G, 3]");

// The same elements at the same places: equal sizes and, where a dimension is longer than 1, equal strides.
inline bool same_layout(const Tensor& a, const Tensor& b) {
  const auto sizes = a.sizes(), other_sizes = b.sizes(), strides = a.strides(), other_strides = b.strides();
  if (sizes.size() != other_sizes.size()) return false;
  for (size_t d = 0; d < sizes.size(); ++d) {
    if (sizes[d] != other_sizes[d] || (sizes[d] > 1 && strides[d] != other_strides[d])) return false;
  }
  return true;
}

// Whether its elements fill one run of memory, in whatever order of dimensions.
inline bool is_dense(const Tensor& tensor) {
  const auto sizes = tensor.sizes(), strides = tensor.strides();
  int64_t span = 1;
  for (size_t d = 0; d < sizes.size(); ++d) span += (sizes[d] - 1) * strides[d];
  return tensor.numel() == 0 || span == tensor.numel();
}

// The table under construction; `device` is that of every tensor, -1 for the CPU.
class Rows {
 public:
  explicit Rows(int32_t device) : device_(device) {}

  // gradients, averages: an empty tensor where there is none. kept: where a gradient of another layout was copied to.
  void add_parameters(const std::vector<Tensor>& parameters, const std::vector<Tensor>& gradients,
                      const std::vector<Tensor>& momenta, const std::vector<Tensor>& averages,
                      const std::vector<int64_t>& groups, int64_t group_count, std::vector<Tensor>& kept) {
    const size_t count = parameters.size();
    if (gradients.size() != count || momenta.size() != count || averages.size() != count || groups.size() != count)
      throw std::invalid_argument("gradients, momenta, averages, group_indices: one for each parameter");
    rows_.reserve(rows_.size() + count);
    for (size_t i = 0; i < count; ++i) {
      const Tensor &parameter = parameters[i], &momentum = momenta[i], &average = averages[i];
      check(parameter, ScalarType::Float, "parameters");
      if (!is_dense(parameter)) throw std::invalid_argument("parameters: without gaps between their elements");
      check_like(momentum, parameter, "momenta");
      if (groups[i] < 0 || groups[i] >= group_count) throw std::out_of_range("group_indices: outside the groups");
      const bool descends = gradients[i].numel() != 0, follows = average.numel() != 0;
      Tensor gradient = gradients[i];
      if (descends) {
        check(gradient, ScalarType::Float, "gradients");
        if (!same_layout(gradient, parameter)) {
          gradient = in_layout_of(parameter, gradient);
          kept.push_back(gradient);
        }
      }
      if (follows) check_like(average, parameter, "averages");
      if (!descends && !follows) continue;
      append(parameter, descends ? &gradient : nullptr, &momentum, follows ? &average : nullptr, parameter.numel(),
             groups[i]);
    }
  }

  void add_followed(const std::vector<Tensor>& followed, const std::vector<Tensor>& followers) {
    if (followed.size() != followers.size()) throw std::invalid_argument("followers: one for each followed tensor");
    rows_.reserve(rows_.size() + followed.size());
    for (size_t i = 0; i < followed.size(); ++i) {
      const ScalarType type = followed[i].scalar_type();
      if (type != ScalarType::Float && type != ScalarType::Long)
        throw std::invalid_argument("followed: float32 or int64");
      check(followed[i], type, "followed");
      check(followers[i], type, "followers");
      if (!is_dense(followed[i]) || !same_layout(followed[i], followers[i]))
        throw std::invalid_argument("followed, followers: pairs of one layout without gaps");
      const bool copied = type == ScalarType::Long;
      append(followed[i], nullptr, nullptr, &followers[i], followed[i].numel() * (copied ? 2 : 1),
             copied ? kCopied : 0);
    }
  }

  void check_settings(const Tensor& groups, const Tensor& share) const {
    check(groups, ScalarType::Float, "groups");
    check(share, ScalarType::Float, "share");
    if (groups.dim() != 2 || groups.size(0) < 1 || groups.size(1) != 3 || !groups.is_contiguous())
      throw std::invalid_argument("groups: float32 [G, 3], contiguous, G at least 1");
    if (share.numel() != 1) throw std::invalid_argument("share: one float32");
  }

  const Row* data() const { return rows_.data(); }
  int count() const { return static_cast<int>(rows_.size()); }
  int32_t chunks() const { return chunks_; }

 private:
  void check(const Tensor& tensor, ScalarType type, const char* name) const {
    if (tensor.scalar_type() != type)
      throw std::invalid_argument(std::string(name) + (type == ScalarType::Float ? ": float32" : ": int64"));
    if (tensor.get_device() != device_)
      throw std::invalid_argument(std::string(name) + ": on the device of all the others");
  }

  void check_like(const Tensor& tensor, const Tensor& parameter, const char* name) const {
    check(tensor, ScalarType::Float, name);
    if (!same_layout(tensor, parameter))
      throw std::invalid_argument(std::string(name) + ": with their parameters' sizes and strides");
  }

  static Tensor in_layout_of(const Tensor& parameter, const Tensor& gradient) {
    const auto sizes = parameter.sizes(), other_sizes = gradient.sizes();
    bool fits = sizes.size() == other_sizes.size();
    for (size_t d = 0; fits && d < sizes.size(); ++d) fits = sizes[d] == other_sizes[d];
    if (!fits) throw std::invalid_argument("gradients: with their parameters' sizes");
    Tensor copy = torch::stable::empty_like(parameter);
    return torch::stable::copy_(copy, gradient);
  }

  void append(const Tensor& parameter, const Tensor* gradient, const Tensor* momentum, const Tensor* average,
              int64_t count, int64_t group) {
    if (count == 0) return;
    const auto floats = [](const Tensor* tensor) {
      return tensor ? static_cast<float*>(tensor->data_ptr()) : nullptr;
    };
    rows_.push_back({floats(&parameter), floats(gradient), floats(momentum), floats(average), count,
                     static_cast<int32_t>(group), chunks_});
    chunks_ += static_cast<int32_t>((count + kChunk - 1) / kChunk);
  }

  int32_t device_;
  int32_t chunks_ = 0;
  std::vector<Row> rows_;
};

}  // namespace fastcifar
