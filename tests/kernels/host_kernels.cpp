// The raw kernels of `augment` for the tests: the CPU's as it is, and the CUDA kernel's steps, thread after thread.

#include "augment/block.h"
#include "augment/cpu.h"

using namespace fastcifar;

extern "C" {

int settings_bytes() { return sizeof(AugmentSettings); }

void augment_on_cpu(const AugmentSettings* settings, uint32_t epoch, const uint8_t* images, const int64_t* indices,
                    int64_t begin, int64_t end, void* output, int store, float* draws) {
  augment_cpu(*settings, epoch, images, indices, begin, end, output, static_cast<Store>(store), draws);
}

void augment_in_blocks(const AugmentSettings* settings, uint32_t epoch, const uint8_t* images, const int64_t* indices,
                       int64_t count, float* output, float* draws) {
  const int pixels = settings->size * settings->size;
  static Block<float> block;
  for (int64_t b = 0; b < count; ++b) {
    // Shared memory holds anything at first.
    std::memset(&block, 0xff, sizeof block);
    const uint8_t* image = images + indices[b] * kImageBytes;
    float* place = output + b * pixels * 3;
    for (int t = kThreads; t-- > 0;) draw_step(block, *settings, epoch, indices[b], draws + b * kDrawFields, t);
    for (int t = kThreads; t-- > 0;) frame_step(block, *settings, fetch(image, t), t);
    for (int chunk = 0; chunk * kChunk < pixels; ++chunk) {
      for (int t = kThreads; t-- > 0;) sample_step(block, *settings, chunk, t, [](float value) { return value; });
      for (int t = kThreads; t-- > 0;) store_step(block, settings->size, chunk, t, place);
    }
  }
}
}
