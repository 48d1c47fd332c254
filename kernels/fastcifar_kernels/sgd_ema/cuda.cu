#include <cuda_runtime.h>

#include <algorithm>
#include <cstring>

#include "block.h"
#include "cuda.h"

namespace fastcifar {
namespace {

template <int kRows>
__global__ void __launch_bounds__(kThreads) sgd_ema_kernel(const __grid_constant__ Table<kRows> table,
                                                           const Group* __restrict__ groups,
                                                           const float* __restrict__ share, bool nesterov) {
  update_chunk(table.rows, table.count, table.rows[0].first_chunk + blockIdx.x, threadIdx.x, groups, share, nesterov);
}

template <int kRows>
int launch(const Row* rows, int count, const Group* groups, const float* share, bool nesterov, void* stream) {
  Table<kRows> table;
  table.count = count;
  std::memcpy(table.rows, rows, count * sizeof(Row));
  const Row& last = rows[count - 1];
  const int64_t end = last.first_chunk + (last.count + kChunk - 1) / kChunk;
  sgd_ema_kernel<kRows><<<static_cast<unsigned>(end - rows[0].first_chunk), kThreads, 0,
                          static_cast<cudaStream_t>(stream)>>>(table, groups, share, nesterov);
  return cudaGetLastError();
}

}  // namespace

int sgd_ema_cuda(const Row* rows, int count, const Group* groups, const float* share, bool nesterov, void* stream) {
  for (int done = 0; done < count; done += kManyRows) {
    const int now = std::min(count - done, kManyRows);
    const int error = now <= kFewRows ? launch<kFewRows>(rows + done, now, groups, share, nesterov, stream)
                                      : launch<kManyRows>(rows + done, now, groups, share, nesterov, stream);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace fastcifar
