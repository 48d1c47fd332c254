#pragma once

#include <cstdint>

#include "augment.h"
#include "store.h"

namespace fastcifar {

// Images begin..end - 1 of the batch, drawn for an epoch. images: uint8 [N, 32, 32, 3]; indices: into it, each within
// 0..N - 1; output: [B, size, size, 3]; draws: float [B, kDrawFields], or null.
void augment_cpu(const AugmentSettings& settings, uint32_t epoch, const uint8_t* images, const int64_t* indices,
                 int64_t begin, int64_t end, void* output, Store store, float* draws);

}  // namespace fastcifar
