#pragma once

#include "sgd_ema.h"

namespace fastcifar {

// A table of `count` rows on a CUDA stream (a cudaStream_t): one launch for up to 680 rows. groups, share: on the
// device, read when the kernel runs. Returns the launch's cudaError_t.
int sgd_ema_cuda(const Row* rows, int count, const Group* groups, const float* share, bool nesterov, void* stream);

}  // namespace fastcifar
