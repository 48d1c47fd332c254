#pragma once

#include <cstdint>

#include "host_device.h"

// One step of SGD and of the moving average behind it, as a table of tensors and the work on a chunk of one of them.

namespace fastcifar {

constexpr int kChunk = 1024;  // elements that a block updates, and the least that a CPU thread is sent for
constexpr int kCopied = -1;   // in place of a group: 32-bit words that the average takes over as they are

// A tensor as a run of memory: all four pointers walk it in the same order.
struct Row {
  float* parameter;
  const float* gradient;  // null: the parameter stays as it is
  float* momentum;
  float* average;  // null: there is none
  int64_t count;
  int32_t group;
  int32_t first_chunk;  // chunks of the rows before this one
};

struct Group {
  float learning_rate, momentum, weight_decay;
};

// The parameter after a step; torch.optim.SGD without dampening.
HOST_DEVICE float descend(float parameter, float gradient, float& momentum, const Group& group, bool nesterov) {
  const float slope = gradient + group.weight_decay * parameter;
  momentum = group.momentum * momentum + slope;
  return parameter - group.learning_rate * (nesterov ? slope + group.momentum * momentum : momentum);
}

// From the average towards the parameter, from the nearer end as torch.lerp does: exact where share is 0 or 1.
HOST_DEVICE float follow(float average, float parameter, float share) {
  const float distance = parameter - average;
  return share < 0.5f ? average + share * distance : parameter - (1.0f - share) * distance;
}

// Index of the row that a chunk lies in. Rows without elements are not in the table.
HOST_DEVICE int row_of(const Row* rows, int count, int32_t chunk) {
  int low = 0, high = count - 1;
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (rows[middle].first_chunk <= chunk) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

}  // namespace fastcifar
