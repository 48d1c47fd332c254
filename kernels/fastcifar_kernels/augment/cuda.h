#pragma once

#include <cstdint>

#include "augment.h"
#include "store.h"

namespace fastcifar {

// The whole batch on a CUDA stream (a cudaStream_t). epoch: one int64, read when the kernel runs, so that a captured
// launch can be replayed in another; images: uint8 [stored, 32, 32, 3]; indices: int64 [count];
// output: [count, size, size, 3], NaN where an index lies outside 0..stored - 1; draws: float [count, kDrawFields], or
// null. Returns the launch's cudaError_t.
int augment_cuda(const AugmentSettings& settings, const int64_t* epoch, const uint8_t* images, int64_t stored,
                 const int64_t* indices, int64_t count, void* output, Store store, float* draws, void* stream);

}  // namespace fastcifar
