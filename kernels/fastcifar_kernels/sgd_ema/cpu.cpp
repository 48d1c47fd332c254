#include "cpu.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "sgd_ema.h"
#include "vectors.h"

namespace fastcifar {
namespace {

template <bool kDescends, bool kFollows>
INLINED void walk(const Row& row, int64_t first, int64_t last, const Group& group, float share, bool nesterov) {
  float* __restrict parameter = row.parameter;
  const float* __restrict gradient = row.gradient;
  float* __restrict momentum = row.momentum;
  float* __restrict average = row.average;
  for (int64_t e = first; e < last; ++e) {
    float value = parameter[e];
    if (kDescends) {
      value = descend(value, gradient[e], momentum[e], group, nesterov);
      parameter[e] = value;
    }
    if (kFollows) average[e] = follow(average[e], value, share);
  }
}

}  // namespace

CLONED void sgd_ema_cpu(const Row* rows, int count, int32_t begin, int32_t end, const Group* groups, float share,
                        bool nesterov) {
  for (int r = begin < end ? row_of(rows, count, begin) : count; r < count && rows[r].first_chunk < end; ++r) {
    const Row& row = rows[r];
    const int64_t first = int64_t{std::max(begin - row.first_chunk, 0)} * kChunk;
    const int64_t last = std::min(int64_t{end - row.first_chunk} * kChunk, row.count);
    if (row.group == kCopied) {
      std::memcpy(row.average + first, row.parameter + first, (last - first) * sizeof(float));
    } else if (row.gradient && row.average) {
      walk<true, true>(row, first, last, groups[row.group], share, nesterov);
    } else if (row.gradient) {
      walk<true, false>(row, first, last, groups[row.group], share, nesterov);
    } else {
      walk<false, true>(row, first, last, groups[row.group], share, nesterov);
    }
  }
}

}  // namespace fastcifar
