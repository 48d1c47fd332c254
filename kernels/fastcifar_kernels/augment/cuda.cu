#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "block.h"
#include "cuda.h"

namespace fastcifar {
namespace {

__device__ __forceinline__ void convert(float value, float& number) { number = value; }
__device__ __forceinline__ void convert(float value, __half& number) { number = __float2half_rn(value); }
__device__ __forceinline__ void convert(float value, __nv_bfloat16& number) { number = __float2bfloat16_rn(value); }

template <typename Number>
struct Narrow {
  __device__ __forceinline__ Number operator()(float value) const {
    Number number;
    convert(value, number);
    return number;
  }
};

template <typename Number>
__global__ void __launch_bounds__(kThreads) augment_kernel(const __grid_constant__ AugmentSettings settings,
                                                           const int64_t* __restrict__ epoch,
                                                           const uint8_t* __restrict__ images, int64_t stored,
                                                           const int64_t* __restrict__ indices,
                                                           Number* __restrict__ output, float* __restrict__ draws) {
  __shared__ Block<Number> block;
  const int thread = threadIdx.x, pixels = settings.size * settings.size;
  const int64_t b = blockIdx.x, index = indices[b];
  Number* image = output + b * pixels * 3;
  const Narrow<Number> narrow;
  if (index < 0 || index >= stored) {
    for (int k = thread; k < pixels * 3; k += kThreads) image[k] = narrow(__int_as_float(0x7fffffff));
    return;
  }
  const FourPixels mine = fetch(images + index * kImageBytes, thread);
  const uint32_t number = static_cast<uint32_t>(*epoch);
  draw_step(block, settings, number, index, draws ? draws + b * kDrawFields : nullptr, thread);
  __syncthreads();
  frame_step(block, settings, mine, thread);
  for (int chunk = 0; chunk * kChunk < pixels; ++chunk) {
    __syncthreads();
    sample_step(block, settings, chunk, thread, narrow);
    __syncthreads();
    store_step(block, settings.size, chunk, thread, image);
  }
}

template <typename Number>
int launch(const AugmentSettings& settings, const int64_t* epoch, const uint8_t* images, int64_t stored,
           const int64_t* indices, int64_t count, void* output, float* draws, void* stream) {
  augment_kernel<<<static_cast<unsigned>(count), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(
      settings, epoch, images, stored, indices, static_cast<Number*>(output), draws);
  return cudaGetLastError();
}

}  // namespace

int augment_cuda(const AugmentSettings& settings, const int64_t* epoch, const uint8_t* images, int64_t stored,
                 const int64_t* indices, int64_t count, void* output, Store store, float* draws, void* stream) {
  if (count == 0) return cudaSuccess;
  switch (store) {
    case Store::float32:
      return launch<float>(settings, epoch, images, stored, indices, count, output, draws, stream);
    case Store::float16:
      return launch<__half>(settings, epoch, images, stored, indices, count, output, draws, stream);
    case Store::bfloat16:
      return launch<__nv_bfloat16>(settings, epoch, images, stored, indices, count, output, draws, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace fastcifar
