#include <cuda_runtime.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <string>

#include "augment/binding.h"
#include "augment/cuda.h"
#include "sgd_ema/binding.h"
#include "sgd_ema/cuda.h"

namespace fastcifar {
namespace {

void* current_stream(int32_t device) {
  void* stream = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(device, &stream));
  return stream;
}

std::tuple<Tensor, Tensor> augment(Tensor images, Tensor indices, int64_t seed, Tensor epoch, double flip,
                                   double affine, double rotate_degrees, double shift, double scale, bool by_axis,
                                   bool reflect, double dropout, int64_t dropout_size, double gray,
                                   std::vector<double> hole_levels, std::vector<double> mean, std::vector<double> std,
                                   int64_t size, ScalarType dtype, bool return_draws) {
  check_inputs(images, indices, epoch);
  if (!indices.is_cuda() || images.get_device() != indices.get_device())
    throw std::invalid_argument("indices: on the images' device");
  if (!epoch.is_cuda() || images.get_device() != epoch.get_device())
    throw std::invalid_argument("epoch: on the images' device");
  const AugmentSettings settings =
      settings_from(seed, flip, affine, rotate_degrees, shift, scale, by_axis, reflect, dropout, dropout_size, gray,
                    hole_levels, mean, std, size);
  const Store store = store_of(dtype);
  const torch::stable::accelerator::DeviceGuard guard(images.get_device());
  const int64_t count = indices.size(0);
  auto [output, draws] = allocate(images, count, size, dtype, return_draws);
  const int error = augment_cuda(settings, static_cast<const int64_t*>(epoch.data_ptr()),
                                 static_cast<const uint8_t*>(images.data_ptr()), images.size(0),
                                 static_cast<const int64_t*>(indices.data_ptr()), count, output.data_ptr(), store,
                                 return_draws ? static_cast<float*>(draws.data_ptr()) : nullptr,
                                 current_stream(images.get_device()));
  if (error != 0) throw std::runtime_error("augment: CUDA error " + std::to_string(error) + " at the launch");
  return {output, draws};
}

void sgd_ema(std::vector<Tensor> parameters, std::vector<Tensor> gradients, std::vector<Tensor> momenta,
             std::vector<Tensor> averages, std::vector<Tensor> followed, std::vector<Tensor> followers,
             std::vector<int64_t> group_indices, Tensor groups, Tensor share, bool nesterov) {
  if (!groups.is_cuda()) throw std::invalid_argument("groups: on the device of all the others");
  const int32_t device = groups.get_device();
  Rows rows(device);
  rows.check_settings(groups, share);
  const torch::stable::accelerator::DeviceGuard guard(device);
  std::vector<Tensor> kept;  // freed in the stream's order, after the launch
  rows.add_parameters(parameters, gradients, momenta, averages, group_indices, groups.size(0), kept);
  rows.add_followed(followed, followers);
  const int error = sgd_ema_cuda(rows.data(), rows.count(), static_cast<const Group*>(groups.data_ptr()),
                                 static_cast<const float*>(share.data_ptr()), nesterov, current_stream(device));
  if (error != 0) throw std::runtime_error("sgd_ema: CUDA error " + std::to_string(error) + " at the launch");
}

}  // namespace
}  // namespace fastcifar

// Whether the driver knows this CUDA, or there is no driver to ask. backend.py asks, and takes Triton where it does not.
extern "C" __attribute__((visibility("default"))) int fastcifar_kernels_cuda_usable() {
  int driver = 0;
  return cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0 || driver / 1000 >= CUDART_VERSION / 1000;
}

STABLE_TORCH_LIBRARY_IMPL(fastcifar_kernels, CUDA, m) {
  if (!fastcifar_kernels_cuda_usable()) return;
  m.impl("augment", TORCH_BOX(&fastcifar::augment));
  m.impl("sgd_ema", TORCH_BOX(&fastcifar::sgd_ema));
}
