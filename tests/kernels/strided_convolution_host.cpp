// The raw kernel of `strided_convolution` for the tests, a chunk after the other from the last to the first.

#include "strided_convolution/cpu.h"

#include <algorithm>

using namespace fastcifar;

extern "C" void strided_on_cpu(int64_t images, int64_t inputs, int64_t height, int64_t width, int64_t outputs,
                               const float* grad, const float* x, const float* weight, float* dx, float* dweight) {
  const StridedShape shape{images, inputs, height, width, outputs};
  const int64_t chunks = strided_chunks(shape);
  const StridedSums one = strided_sums(shape);
  const std::vector<float> taps = strided_weight(shape, weight);
  std::vector<float> sums(chunks * one.size());
  for (int64_t chunk = chunks - 1; chunk >= 0; --chunk) {
    strided_backward_cpu(shape, grad, x, taps.data(), chunk, chunk + 1, dx, sums.data());
  }
  for (int64_t o = 0; o < outputs; ++o) {
    for (int64_t k = 0; k < 3; ++k) {
      for (int64_t e = 0; e < 3 * inputs; ++e) {
        float total = 0;
        for (int64_t chunk = 0; chunk < chunks; ++chunk) {
          total += sums[chunk * one.size() + (k * one.outputs + o) * one.columns + e];
        }
        dweight[(o * 3 + k) * 3 * inputs + e] = total;
      }
    }
  }
}
