#include "cpu.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "vectors.h"

// Both gradients as products of small matrices that stay in registers while they are summed, over a block of images
// that stays in the cache. x and grad are copied there with a border of zeros, so that nothing inside asks where it is.
//
// The weight's: the three taps of a row lie side by side in x, so that output (i, j) adds, for each tap row k, the
// outer product of grad[i, j] and the 3 C values from x[2 i + k - 1, 2 j - 1] on.
//
// The input's: a pair of pixels (p, 2 j), (p, 2 j + 1) lies side by side in dx, and is grad[i, j] times the taps 1 and
// 2 of a row, and grad[i, j + 1] times tap 0 in the odd pixel. An even row p = 2 i takes tap row 1 of grad's row i, an
// odd one tap row 2 of row i and tap row 0 of row i + 1.

namespace fastcifar {
namespace {

constexpr int64_t kMaxChunks = 16;
constexpr int64_t kBlockBytes = 192 * 1024;  // of x and grad with their borders
constexpr int kMostVectors = 3;              // of a tile: its width
constexpr int64_t kAlignment = 64;

int64_t rounded_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

// What the vectors of a processor allow: their length in floats, and a tile's height, so that its sums, kMostVectors in
// each row, a row of operands and a factor fit the registers.
template <int lanes, int rows>
struct Machine {
  static constexpr int kLanes = lanes, kRows = rows;
  typedef float Vector __attribute__((vector_size(lanes * sizeof(float))));
};
using Wide = Machine<16, 8>;   // 32 registers of 512 bits
using Middle = Machine<8, 4>;  // 16 of 256
using Narrow = Machine<4, 4>;  // 16 of 128

// What the whole library is compiled for.
#if defined(__AVX512VL__)
using Own = Wide;
#elif defined(__AVX2__)
using Own = Middle;
#else
using Own = Narrow;
#endif

// Sizes in floats of what a block holds.
struct Layout {
  int64_t images;
  int64_t x_row, x_image, x_size;                       // 2 OH + 1 rows of 2 OW + 1 pixels
  int64_t grad_pixel, grad_row, grad_image, grad_size;  // OH + 1 rows of OW + 1 pixels
};

template <typename M>
Layout layout_of(const StridedShape& shape) {
  Layout layout{};
  const int64_t rows = shape.output_height(), columns = shape.output_width();
  layout.x_row = rounded_up((2 * columns + 1) * shape.inputs, kAlignment / 4);
  layout.x_image = (2 * rows + 1) * layout.x_row;
  layout.grad_pixel = rounded_up(shape.outputs, M::kRows);
  layout.grad_row = (columns + 1) * layout.grad_pixel;
  layout.grad_image = (rows + 1) * layout.grad_row;
  const int64_t bytes = (layout.x_image + layout.grad_image) * static_cast<int64_t>(sizeof(float));
  layout.images = std::max<int64_t>(1, kBlockBytes / bytes);
  layout.x_size = layout.images * layout.x_image + kMostVectors * M::kLanes;  // a tile may read beyond
  layout.grad_size = layout.images * layout.grad_image;
  return layout;
}

// The weight's gradient: kRows output channels by `vectors` vectors of a tap row, over every pixel of a block.
template <typename M, int vectors>
INLINED void add_outer_products(const StridedShape& shape, const Layout& layout, int64_t images, const float* x,
                                const float* grad, float* sums, int64_t columns) {
  using Vector = typename M::Vector;
  const int64_t step = 2 * shape.inputs, height = shape.output_height(), width = shape.output_width();
  Vector total[M::kRows][vectors] = {};
  for (int64_t n = 0; n < images; ++n) {
    for (int64_t i = 0; i < height; ++i) {
      const float* pixels = x + n * layout.x_image + 2 * i * layout.x_row;
      const float* slopes = grad + n * layout.grad_image + i * layout.grad_row;
      for (int64_t j = 0; j < width; ++j, pixels += step, slopes += layout.grad_pixel) {
        Vector value[vectors];
#pragma GCC unroll 3
        for (int v = 0; v < vectors; ++v) value[v] = load<Vector>(pixels + v * M::kLanes);
#pragma GCC unroll 8
        for (int r = 0; r < M::kRows; ++r) {
#pragma GCC unroll 3
          for (int v = 0; v < vectors; ++v) total[r][v] += slopes[r] * value[v];
        }
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < M::kRows; ++r) {
#pragma GCC unroll 3
    for (int v = 0; v < vectors; ++v) {
      float* place = sums + r * columns + v * M::kLanes;
      store(place, load<Vector>(place) + total[r][v]);
    }
  }
}

template <typename M>
INLINED void weight_gradient(const StridedShape& shape, const Layout& layout, int64_t images, const float* x,
                             const float* grad, float* sums) {
  const int64_t columns = rounded_up(3 * shape.inputs, M::kLanes);
  for (int64_t k = 0; k < 3; ++k) {
    for (int64_t column = 0; column < columns; column += kMostVectors * M::kLanes) {
      const float* pixels = x + k * layout.x_row + column;
      for (int64_t o = 0; o < layout.grad_pixel; o += M::kRows) {
        float* place = sums + (k * layout.grad_pixel + o) * columns + column;
        const int64_t vectors = (columns - column) / M::kLanes;
        if (vectors >= 3) add_outer_products<M, 3>(shape, layout, images, pixels, grad + o, place, columns);
        if (vectors == 2) add_outer_products<M, 2>(shape, layout, images, pixels, grad + o, place, columns);
        if (vectors == 1) add_outer_products<M, 1>(shape, layout, images, pixels, grad + o, place, columns);
      }
    }
  }
}

// A part of a row of dx: `first`, `first` + 1, ... vectors of the 2 C values of a pair of pixels.
struct Columns {
  int64_t first, vectors;
  int64_t skipped;  // leading vectors that lie in the even pixel alone
};

template <typename M>
int64_t pair_vectors(const StridedShape& shape) {
  return rounded_up(2 * shape.inputs, M::kLanes) / M::kLanes;
}

template <typename M>
Columns columns_from(const StridedShape& shape, int64_t first) {
  const int64_t vectors = std::min<int64_t>(kMostVectors, pair_vectors<M>(shape) - first);
  const int64_t even = shape.inputs / M::kLanes;
  return {first, vectors, std::min(vectors, std::max<int64_t>(0, even - first))};
}

// kRows pairs of pixels in a row of dx each: where grad[i, j] lies in the block, and the pair in dx with its length.
template <typename M>
struct Tile {
  int64_t slope[M::kRows];
  float* pair[M::kRows];
  int64_t length[M::kRows];
};

template <typename M, int vectors, int skipped>
INLINED void multiply(const StridedShape& shape, const Layout& layout, const Tile<M>& tile, const float* grad,
                      const float* weight, bool odd, int64_t first) {
  using Vector = typename M::Vector;
  constexpr int64_t kWidth = vectors * M::kLanes;
  const int64_t outputs = shape.outputs, tap_row = 2 * outputs * kWidth;
  Vector total[M::kRows][vectors] = {};
  const float* slopes[M::kRows];
  for (int term = 0; term < (odd ? 2 : 1); ++term) {
    const float* taps = weight + (odd ? 2 - 2 * term : 1) * tap_row;
#pragma GCC unroll 8
    for (int r = 0; r < M::kRows; ++r) slopes[r] = grad + tile.slope[r] + term * layout.grad_row;
    for (int64_t o = 0; o < outputs; ++o, taps += kWidth) {
      Vector tap[vectors];
#pragma GCC unroll 3
      for (int v = 0; v < vectors; ++v) tap[v] = load<Vector>(taps + v * M::kLanes);
#pragma GCC unroll 8
      for (int r = 0; r < M::kRows; ++r) {
#pragma GCC unroll 3
        for (int v = 0; v < vectors; ++v) total[r][v] += slopes[r][o] * tap[v];
      }
    }
    if (skipped == vectors) continue;
#pragma GCC unroll 8
    for (int r = 0; r < M::kRows; ++r) slopes[r] += layout.grad_pixel;
    for (int64_t o = 0; o < outputs; ++o, taps += kWidth) {
      Vector tap[vectors];
#pragma GCC unroll 3
      for (int v = skipped; v < vectors; ++v) tap[v] = load<Vector>(taps + v * M::kLanes);
#pragma GCC unroll 8
      for (int r = 0; r < M::kRows; ++r) {
#pragma GCC unroll 3
        for (int v = skipped; v < vectors; ++v) total[r][v] += slopes[r][o] * tap[v];
      }
    }
  }
  const int64_t from = first * M::kLanes;
#pragma GCC unroll 8
  for (int r = 0; r < M::kRows; ++r) {
    const int64_t length = tile.length[r] - from;
    if (length >= kWidth) {
#pragma GCC unroll 3
      for (int v = 0; v < vectors; ++v) store(tile.pair[r] + from + v * M::kLanes, total[r][v]);
    } else if (length > 0) {
      std::memcpy(tile.pair[r] + from, total[r], length * sizeof(float));
    }
  }
}

template <typename M, int vectors>
INLINED void multiply_from(const StridedShape& shape, const Layout& layout, const Tile<M>& tile, const float* grad,
                           const float* weight, bool odd, const Columns& columns) {
  const int64_t first = columns.first;
  if (columns.skipped == 0) multiply<M, vectors, 0>(shape, layout, tile, grad, weight, odd, first);
  if (columns.skipped == 1) multiply<M, vectors, 1>(shape, layout, tile, grad, weight, odd, first);
  if (columns.skipped == 2) multiply<M, vectors, std::min(vectors, 2)>(shape, layout, tile, grad, weight, odd, first);
  if (columns.skipped == 3) multiply<M, vectors, vectors>(shape, layout, tile, grad, weight, odd, first);
}

template <typename M>
INLINED void input_gradient(const StridedShape& shape, const Layout& layout, int64_t images, const float* grad,
                            const float* weight, float* dx) {
  const int64_t height = shape.output_height(), width = shape.output_width(), channels = shape.inputs;
  const int64_t pairs = images * height * width, vectors = pair_vectors<M>(shape);
  for (int64_t pair = 0; pair < pairs; pair += M::kRows) {
    for (int odd = 0; odd < 2; ++odd) {
      Tile<M> tile;
      for (int r = 0; r < M::kRows; ++r) {
        const int64_t place = std::min(pair + r, pairs - 1);  // the last one again, rather than a tile of less height
        const int64_t n = place / (height * width), i = place / width % height, j = place % width;
        const int64_t row = 2 * i + odd, column = 2 * j;
        tile.slope[r] = n * layout.grad_image + i * layout.grad_row + j * layout.grad_pixel;
        tile.pair[r] = dx + ((n * shape.height + row) * shape.width + column) * channels;
        tile.length[r] = row < shape.height ? std::min<int64_t>(2, shape.width - column) * channels : 0;
      }
      const float* taps = weight;
      for (int64_t first = 0; first < vectors; first += kMostVectors) {
        const Columns columns = columns_from<M>(shape, first);
        if (columns.vectors == 3) multiply_from<M, 3>(shape, layout, tile, grad, taps, odd, columns);
        if (columns.vectors == 2) multiply_from<M, 2>(shape, layout, tile, grad, taps, odd, columns);
        if (columns.vectors == 1) multiply_from<M, 1>(shape, layout, tile, grad, taps, odd, columns);
        taps += 3 * 2 * shape.outputs * columns.vectors * M::kLanes;
      }
    }
  }
}

INLINED void fill(const StridedShape& shape, const Layout& layout, int64_t images, const float* x, const float* grad,
                  float* block_x, float* block_grad) {
  const int64_t row = shape.width * shape.inputs, height = shape.output_height(), width = shape.output_width();
  for (int64_t n = 0; n < images; ++n) {
    for (int64_t p = 0; p < shape.height; ++p) {
      std::memcpy(block_x + n * layout.x_image + (p + 1) * layout.x_row + shape.inputs,
                  x + (n * shape.height + p) * row, row * sizeof(float));
    }
    for (int64_t i = 0; i < height; ++i) {
      float* to = block_grad + n * layout.grad_image + i * layout.grad_row;
      const float* from = grad + (n * height + i) * width * shape.outputs;
      if (layout.grad_pixel == shape.outputs) {
        std::memcpy(to, from, width * shape.outputs * sizeof(float));
        continue;
      }
      for (int64_t j = 0; j < width; ++j) {
        std::memcpy(to + j * layout.grad_pixel, from + j * shape.outputs, shape.outputs * sizeof(float));
      }
    }
  }
}

// The first place of a buffer of `size` floats and a cache line more where a line starts.
float* aligned(std::vector<float>& buffer, int64_t size) {
  buffer.assign(size + kAlignment / 4, 0.0f);
  const auto address = reinterpret_cast<uintptr_t>(buffer.data());
  return buffer.data() + (rounded_up(address, kAlignment) - address) / sizeof(float);
}

template <typename M>
INLINED void backward(const StridedShape& shape, const float* grad, const float* x, const float* weight, int64_t begin,
                      int64_t end, float* dx, float* sums) {
  const Layout layout = layout_of<M>(shape);
  std::vector<float> x_buffer, grad_buffer;
  float* block_x = aligned(x_buffer, layout.x_size);
  float* block_grad = aligned(grad_buffer, layout.grad_size);
  const int64_t in_chunk = (shape.images + kMaxChunks - 1) / kMaxChunks;
  const int64_t image_x = shape.height * shape.width * shape.inputs;
  const int64_t image_grad = shape.output_height() * shape.output_width() * shape.outputs;
  const int64_t size = strided_sums(shape).size();
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    float* own = sums + chunk * size;
    std::fill(own, own + size, 0.0f);
    const int64_t last = std::min((chunk + 1) * in_chunk, shape.images);
    for (int64_t first = chunk * in_chunk; first < last; first += layout.images) {
      const int64_t images = std::min(layout.images, last - first);
      fill(shape, layout, images, x + first * image_x, grad + first * image_grad, block_x, block_grad);
      weight_gradient<M>(shape, layout, images, block_x, block_grad, own);
      if (dx) input_gradient<M>(shape, layout, images, block_grad, weight, dx + first * image_x);
    }
  }
}

template <typename M>
StridedSums sums_of(const StridedShape& shape) {
  return {rounded_up(shape.outputs, M::kRows), rounded_up(3 * shape.inputs, M::kLanes)};
}

// For each part of a row of dx and tap row: the taps 1 and 2 beside each other for each output channel, then 0 and tap
// 0; C values each, and a gap up to a whole vector.
template <typename M>
std::vector<float> ordered(const StridedShape& shape, const float* weight) {
  const int64_t channels = shape.inputs, outputs = shape.outputs, vectors = pair_vectors<M>(shape);
  std::vector<float> taps(3 * 2 * outputs * vectors * M::kLanes, 0.0f);
  float* part = taps.data();
  for (int64_t first = 0; first < vectors; first += kMostVectors) {
    const int64_t width = columns_from<M>(shape, first).vectors * M::kLanes;
    for (int64_t k = 0; k < 3; ++k) {
      for (int64_t o = 0; o < outputs; ++o) {
        const float* row = weight + (o * 3 + k) * 3 * channels;
        float* near = part + (2 * k * outputs + o) * width;
        float* far = near + outputs * width;
        for (int64_t c = 0; c < width; ++c) {
          const int64_t value = first * M::kLanes + c;
          if (value >= 2 * channels) break;
          near[c] = row[channels + value];
          if (value >= channels) far[c] = row[value - channels];
        }
      }
    }
    part += 3 * 2 * outputs * width;
  }
  return taps;
}

#if defined(FASTCIFAR_TARGET_CLONES)
#define WIDE __attribute__((target("arch=x86-64-v4")))
#define MIDDLE __attribute__((target("arch=x86-64-v3")))

WIDE void backward_wide(const StridedShape& shape, const float* grad, const float* x, const float* weight,
                        int64_t begin, int64_t end, float* dx, float* sums) {
  backward<Wide>(shape, grad, x, weight, begin, end, dx, sums);
}

MIDDLE void backward_middle(const StridedShape& shape, const float* grad, const float* x, const float* weight,
                            int64_t begin, int64_t end, float* dx, float* sums) {
  backward<Middle>(shape, grad, x, weight, begin, end, dx, sums);
}

bool wide() { return __builtin_cpu_supports("x86-64-v4"); }

bool middle() { return __builtin_cpu_supports("x86-64-v3"); }
#endif

}  // namespace

int64_t strided_chunks(const StridedShape& shape) {
  const int64_t images = (shape.images + kMaxChunks - 1) / kMaxChunks;
  return images == 0 ? 0 : (shape.images + images - 1) / images;
}

StridedSums strided_sums(const StridedShape& shape) {
#if defined(FASTCIFAR_TARGET_CLONES)
  if (wide()) return sums_of<Wide>(shape);
  if (middle()) return sums_of<Middle>(shape);
#endif
  return sums_of<Own>(shape);
}

std::vector<float> strided_weight(const StridedShape& shape, const float* weight) {
#if defined(FASTCIFAR_TARGET_CLONES)
  if (wide()) return ordered<Wide>(shape, weight);
  if (middle()) return ordered<Middle>(shape, weight);
#endif
  return ordered<Own>(shape, weight);
}

void strided_backward_cpu(const StridedShape& shape, const float* grad, const float* x, const float* weight,
                          int64_t begin, int64_t end, float* dx, float* sums) {
#if defined(FASTCIFAR_TARGET_CLONES)
  if (wide()) return backward_wide(shape, grad, x, weight, begin, end, dx, sums);
  if (middle()) return backward_middle(shape, grad, x, weight, begin, end, dx, sums);
#endif
  backward<Own>(shape, grad, x, weight, begin, end, dx, sums);
}

}  // namespace fastcifar
