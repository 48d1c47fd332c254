#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "augment/binding.h"
#include "augment/cpu.h"
#include "batch_norm_relu/binding.h"
#include "depthwise/binding.h"
#include "sgd_ema/binding.h"
#include "sgd_ema/cpu.h"
#include "strided_convolution/binding.h"

namespace fastcifar {
namespace {

std::tuple<Tensor, Tensor> augment(Tensor images, Tensor indices, int64_t seed, Tensor epoch, double flip,
                                   double affine, double rotate_degrees, double shift, double scale, bool by_axis,
                                   bool reflect, double dropout, int64_t dropout_size, double gray,
                                   std::vector<double> hole_levels, std::vector<double> mean, std::vector<double> std,
                                   int64_t size, ScalarType dtype, bool return_draws) {
  check_inputs(images, indices, epoch);
  const AugmentSettings settings =
      settings_from(seed, flip, affine, rotate_degrees, shift, scale, by_axis, reflect, dropout, dropout_size, gray,
                    hole_levels, mean, std, size);
  const Store store = store_of(dtype);
  const int64_t count = indices.size(0), stored = images.size(0);
  const int64_t* places = static_cast<const int64_t*>(indices.data_ptr());
  for (int64_t b = 0; b < count; ++b) {
    if (places[b] < 0 || places[b] >= stored) throw std::out_of_range("indices: outside the images");
  }
  const uint32_t number = static_cast<uint32_t>(*static_cast<const int64_t*>(epoch.data_ptr()));
  auto [output, draws] = allocate(images, count, size, dtype, return_draws);
  const uint8_t* levels = static_cast<const uint8_t*>(images.data_ptr());
  void* pixels = output.data_ptr();
  float* table = return_draws ? static_cast<float*>(draws.data_ptr()) : nullptr;
  constexpr int64_t kImagesWorthAThread = 16;
  torch::stable::parallel_for(0, count, kImagesWorthAThread, [&](int64_t begin, int64_t end) {
    augment_cpu(settings, number, levels, places, begin, end, pixels, store, table);
  });
  return {output, draws};
}

void sgd_ema(std::vector<Tensor> parameters, std::vector<Tensor> gradients, std::vector<Tensor> momenta,
             std::vector<Tensor> averages, std::vector<Tensor> followed, std::vector<Tensor> followers,
             std::vector<int64_t> group_indices, Tensor groups, Tensor share, bool nesterov) {
  constexpr int32_t kCpu = -1;
  Rows rows(kCpu);
  rows.check_settings(groups, share);
  std::vector<Tensor> kept;
  rows.add_parameters(parameters, gradients, momenta, averages, group_indices, groups.size(0), kept);
  rows.add_followed(followed, followers);
  const Group* settings = static_cast<const Group*>(groups.data_ptr());
  const float portion = *static_cast<const float*>(share.data_ptr());
  constexpr int64_t kChunksWorthAThread = 32;
  torch::stable::parallel_for(0, rows.chunks(), kChunksWorthAThread, [&](int64_t begin, int64_t end) {
    sgd_ema_cpu(rows.data(), rows.count(), static_cast<int32_t>(begin), static_cast<int32_t>(end), settings, portion,
                nesterov);
  });
}

}  // namespace
}  // namespace fastcifar

STABLE_TORCH_LIBRARY_IMPL(fastcifar_kernels, CPU, m) {
  m.impl("augment", TORCH_BOX(&fastcifar::augment));
  m.impl("batch_norm_relu", TORCH_BOX(&fastcifar::batch_norm_relu));
  m.impl("batch_norm_relu_backward", TORCH_BOX(&fastcifar::batch_norm_relu_backward));
  m.impl("depthwise_backward", TORCH_BOX(&fastcifar::depthwise_backward));
  m.impl("sgd_ema", TORCH_BOX(&fastcifar::sgd_ema));
  m.impl("strided_convolution_backward", TORCH_BOX(&fastcifar::strided_convolution_backward));
}
