#pragma once

#include <cstdint>

#include "sgd_ema.h"

// The CUDA kernel's work, a chunk a block: a plain function of block and thread, so that the tests run it on the host.

namespace fastcifar {

constexpr int kThreads = 256;
constexpr int kAtOnce = kChunk / kThreads;
static_assert(kAtOnce == 4, "a thread's elements are one 16-byte load");

// Passed to the kernel by value: nothing to upload, and a captured graph keeps it.
template <int kRows>
struct Table {
  Row rows[kRows];
  int32_t count;
};
constexpr int kFewRows = 84;    // 4 KB, what every driver takes as a kernel's arguments
constexpr int kManyRows = 680;  // 32 KB, what drivers from CUDA 12.1 on take

struct alignas(16) Four {
  float lane[kAtOnce];
};

HOST_DEVICE bool on_16_bytes(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

HOST_DEVICE Four load(const float* place) { return *reinterpret_cast<const Four*>(place); }

HOST_DEVICE void store(float* place, const Four& four) { *reinterpret_cast<Four*>(place) = four; }

HOST_DEVICE void update_element(const Row& row, int64_t e, const Group& group, float share, bool nesterov) {
  float value = row.parameter[e];
  if (row.gradient) {
    float momentum = row.momentum[e];
    value = descend(value, row.gradient[e], momentum, group, nesterov);
    row.momentum[e] = momentum;
    row.parameter[e] = value;
  }
  if (row.average) row.average[e] = row.group == kCopied ? value : follow(row.average[e], value, share);
}

// Every load before the first store: one trip to memory.
HOST_DEVICE void update_four(const Row& row, int64_t e, const Group& group, float share, bool nesterov) {
  Four value = load(row.parameter + e), gradient{}, momentum{}, average{};
  if (row.gradient) {
    gradient = load(row.gradient + e);
    momentum = load(row.momentum + e);
  }
  if (row.average) average = load(row.average + e);
  for (int k = 0; k < kAtOnce; ++k) {
    if (row.gradient) value.lane[k] = descend(value.lane[k], gradient.lane[k], momentum.lane[k], group, nesterov);
    average.lane[k] = row.group == kCopied ? value.lane[k] : follow(average.lane[k], value.lane[k], share);
  }
  if (row.gradient) {
    store(row.momentum + e, momentum);
    store(row.parameter + e, value);
  }
  if (row.average) store(row.average + e, average);
}

// groups: float [G, 3] and share: float [1], both on the device.
HOST_DEVICE void update_chunk(const Row* rows, int count, int32_t chunk, int thread, const Group* groups,
                              const float* share, bool nesterov) {
  const Row& row = rows[row_of(rows, count, chunk)];
  const Group group = groups[row.group == kCopied ? 0 : row.group];
  const int64_t first = int64_t{chunk - row.first_chunk} * kChunk;
  const int64_t left = row.count - first;
  const bool aligned = on_16_bytes(row.parameter) && on_16_bytes(row.gradient) && on_16_bytes(row.momentum) &&
                       on_16_bytes(row.average);
  if (aligned && (thread + 1) * kAtOnce <= left) {
    update_four(row, first + thread * kAtOnce, group, *share, nesterov);
    return;
  }
  // The last, broken four of an aligned tensor; every element of another, neighbours by neighbouring threads.
  for (int k = 0; k < kAtOnce; ++k) {
    const int e = aligned ? thread * kAtOnce + k : k * kThreads + thread;
    if (e < left) update_element(row, first + e, group, *share, nesterov);
  }
}

}  // namespace fastcifar
