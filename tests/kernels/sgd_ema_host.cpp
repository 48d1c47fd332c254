// The raw kernels of `sgd_ema` for the tests: the CPU's as it is, and the CUDA kernel's blocks, thread after thread.

#include "sgd_ema/block.h"
#include "sgd_ema/cpu.h"

using namespace fastcifar;

extern "C" {

int row_bytes() { return sizeof(Row); }

void sgd_ema_on_cpu(const Row* rows, int count, int32_t begin, int32_t end, const Group* groups, const float* share,
                    bool nesterov) {
  sgd_ema_cpu(rows, count, begin, end, groups, *share, nesterov);
}

void sgd_ema_in_blocks(const Row* rows, int count, int32_t begin, int32_t end, const Group* groups, const float* share,
                       bool nesterov) {
  for (int32_t block = end; block-- > begin;) {
    for (int thread = kThreads; thread-- > 0;) update_chunk(rows, count, block, thread, groups, share, nesterov);
  }
}
}
