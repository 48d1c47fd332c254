#pragma once

#include <cstdint>

namespace fastcifar {

// Maps as rows of channels: a row a pixel, images one after the other.
struct NormShape {
  int64_t pixels, channels;
};

// Chunks of pixels into which the shape alone divides the work: each has its own sums, and whoever adds those in order
// has the same result to the bit, however many threads there were.
int64_t norm_chunks(const NormShape& shape);

// The functions below work on chunks begin..end - 1. x, y, residual, grad, dx, dresidual: [pixels, C]; what belongs to
// a channel: [C].

// sums: [chunks, 2, C], of x - origin and of its square.
void norm_moments_cpu(const NormShape& shape, const float* x, const float* origin, int64_t begin, int64_t end,
                      double* sums);

// y = max(0, x scale + shift + residual); residual may be null.
void norm_apply_cpu(const NormShape& shape, const float* x, const float* residual, const float* scale,
                    const float* shift, int64_t begin, int64_t end, float* y);

// What passes backward through the ReLU: g is grad where the output was above 0, else 0. Without a residual that is
// computed again from x, scale and shift, with one, read from y.
struct Relu {
  const float *scale, *shift;  // [C], as norm_apply_cpu had them
  const float* y;              // null without a residual
};

// sums: [chunks, 2, C], of g and of g (x - mean).
void norm_gradient_sums_cpu(const NormShape& shape, const float* grad, const float* x, const Relu& relu,
                            const float* mean, int64_t begin, int64_t end, double* sums);

// dx = scale g + slope x + intercept, dresidual = g; dresidual is null without a residual.
void norm_gradient_cpu(const NormShape& shape, const float* grad, const float* x, const Relu& relu,
                       const float* slope, const float* intercept, int64_t begin, int64_t end, float* dx,
                       float* dresidual);

}  // namespace fastcifar
