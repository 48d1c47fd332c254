#pragma once

#include <cstdint>

namespace fastcifar {

constexpr int64_t kTaps = 9;

struct DepthwiseShape {
  int64_t images, channels, height, width;  // of the input
  int64_t stride, dilation;

  int64_t output_height() const { return (height - 1) / stride + 1; }
  int64_t output_width() const { return (width - 1) / stride + 1; }
};

// Chunks of images into which the shape alone divides the work: each has its own sum of the weight's gradient, and
// whoever adds those in order has the same result to the bit, however many threads there were.
int64_t depthwise_chunks(const DepthwiseShape& shape);

// Chunks begin..end - 1. grad: [N, OH, OW, C]; x, dx: [N, H, W, C]; weight: [9, C]; sums: [chunks, 9, C].
void depthwise_backward_cpu(const DepthwiseShape& shape, const float* grad, const float* x, const float* weight,
                            int64_t begin, int64_t end, float* dx, float* sums);

}  // namespace fastcifar
