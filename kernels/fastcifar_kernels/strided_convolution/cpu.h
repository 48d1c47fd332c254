#pragma once

#include <cstdint>
#include <vector>

namespace fastcifar {

// A 3x3 convolution with stride 2 and padding 1.
struct StridedShape {
  int64_t images, inputs, height, width;  // of the input
  int64_t outputs;                        // channels of the output

  int64_t output_height() const { return (height + 1) / 2; }
  int64_t output_width() const { return (width + 1) / 2; }
};

// Chunks of images into which the shape alone divides the work: each has its own sum of the weight's gradient, and
// whoever adds those in order has the same result to the bit, however many threads there were.
int64_t strided_chunks(const StridedShape& shape);

// A chunk's sum of the weight's gradient, [3, 3 C + gap], for each tap row and output channel (and a gap of those).
struct StridedSums {
  int64_t outputs, columns;  // their numbers with the gaps

  int64_t size() const { return 3 * outputs * columns; }
};

// What a processor's vectors make of a shape.
StridedSums strided_sums(const StridedShape& shape);

// The weight [K, 3, 3, C] in the order in which the input's gradient reads it.
std::vector<float> strided_weight(const StridedShape& shape, const float* weight);

// Chunks begin..end - 1. grad: [N, OH, OW, K]; x, dx: [N, H, W, C], dx null where nobody needs it; weight: as
// `strided_weight` has it; sums: [chunks, sums.size()].
void strided_backward_cpu(const StridedShape& shape, const float* grad, const float* x, const float* weight,
                          int64_t begin, int64_t end, float* dx, float* sums);

}  // namespace fastcifar
