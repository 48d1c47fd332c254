"""The forward kernel: normalise and ReLU on load, depthwise in registers, pointwise on tensor cores, statistics."""

# pyright: basic, reportGeneralTypeIssues=false, reportArgumentType=false, reportAssignmentType=false
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false, reportCallIssue=false
# Triton's language is not Python's: its own loops, constants, tuples.

import triton
import triton.language as tl

from fastcifar_kernels.depthwise_pointwise.triton_tile import cast, depthwise_strip, dot, rounded


@triton.jit
def _weights(pointwise, output, wanted, channel, CHANNELS: tl.constexpr, dtype: tl.constexpr):
    """The pointwise weights of these outputs and channels as the product's right side, [channels, outputs]."""
    place = pointwise + output[None, :] * CHANNELS + channel[:, None]
    return cast(tl.load(place, wanted[None, :] & (channel < CHANNELS)[:, None], other=0.0), dtype)


@triton.jit(do_not_specialize=["images"])
def forward_kernel(
    x,
    depthwise,
    pointwise,
    scale,
    shift,
    y,
    partials,
    images,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    CHANNELS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    STRIDE: tl.constexpr,
    DILATION: tl.constexpr,
    NORMALISE: tl.constexpr,
    STATISTICS: tl.constexpr,
    ROWS: tl.constexpr,
    POSITIONS: tl.constexpr,
    BLOCK: tl.constexpr,
    OUTPUT_BLOCK: tl.constexpr,
):
    """A program takes every num_programs(0)-th tile of POSITIONS strips, and OUTPUT_BLOCK of the outputs.

    x: [images, HEIGHT, WIDTH, CHANNELS]. depthwise: float32 [9, CHANNELS]. pointwise: float32 [OUTPUTS, CHANNELS].
    y: [images, ., ., OUTPUTS]. partials: float32 [num_programs(0), 2, OUTPUTS], sums and sums of squares.
    """
    OUT_HEIGHT: tl.constexpr = (HEIGHT - 1) // STRIDE + 1
    OUT_WIDTH: tl.constexpr = (WIDTH - 1) // STRIDE + 1
    STRIPS: tl.constexpr = (OUT_HEIGHT + ROWS - 1) // ROWS * OUT_WIDTH
    output = tl.program_id(1) * OUTPUT_BLOCK + tl.arange(0, OUTPUT_BLOCK)
    wanted = output < OUTPUTS
    if STATISTICS:
        total = tl.zeros((POSITIONS, OUTPUT_BLOCK), tl.float32)
        squares = tl.zeros((POSITIONS, OUTPUT_BLOCK), tl.float32)
    channel = tl.arange(0, BLOCK)
    weights = _weights(pointwise, output, wanted, channel, CHANNELS, x.dtype.element_ty)
    for tile in range(tl.program_id(0), tl.cdiv(images * STRIPS, POSITIONS), tl.num_programs(0)):
        position = tile * POSITIONS + tl.arange(0, POSITIONS)
        image = position // STRIPS
        strip = position % STRIPS
        row, column = strip // OUT_WIDTH * ROWS, strip % OUT_WIDTH
        inside = image < images
        centre = row * STRIDE * WIDTH + column * STRIDE
        pixel = x + image.to(tl.int64) * (HEIGHT * WIDTH * CHANNELS) + centre * CHANNELS
        upper = tl.zeros((POSITIONS, OUTPUT_BLOCK), tl.float32)
        lower = tl.zeros((POSITIONS, OUTPUT_BLOCK), tl.float32)
        for first in range(0, CHANNELS, BLOCK):
            if CHANNELS > BLOCK:
                channel = first + tl.arange(0, BLOCK)
                weights = _weights(pointwise, output, wanted, channel, CHANNELS, x.dtype.element_ty)
            upper_z, lower_z = depthwise_strip(
                pixel, row * STRIDE, column * STRIDE, inside, channel, depthwise, scale, shift,
                HEIGHT, WIDTH, CHANNELS, STRIDE, DILATION, ROWS, NORMALISE, POSITIONS, BLOCK,
            )  # fmt: skip
            upper = dot(rounded(upper_z, x.dtype.element_ty), weights, upper)
            if ROWS == 2:
                lower = dot(rounded(lower_z, x.dtype.element_ty), weights, lower)
        place = (row * OUT_WIDTH + column) * OUTPUTS
        place = y + image.to(tl.int64) * (OUT_HEIGHT * OUT_WIDTH * OUTPUTS) + place
        place = place[:, None] + output[None, :]
        exists = inside[:, None] & wanted[None, :]
        tl.store(place, cast(upper, y.dtype.element_ty), exists)
        if ROWS == 2:
            below = (row + 1 < OUT_HEIGHT)[:, None]
            tl.store(place + OUT_WIDTH * OUTPUTS, cast(lower, y.dtype.element_ty), exists & below)
            if OUT_HEIGHT % 2:
                lower = tl.where(below, lower, 0.0)
        if STATISTICS:
            total += upper + lower
            squares += upper * upper + lower * lower
    if STATISTICS:
        place = partials + tl.program_id(0) * (2 * OUTPUTS) + output
        tl.store(place, tl.sum(total, 0), wanted)
        tl.store(place + OUTPUTS, tl.sum(squares, 0), wanted)


@triton.jit(do_not_specialize=["programs", "count"])
def statistics_kernel(
    partials, mean, variance, programs, count, OUTPUTS: tl.constexpr, PROGRAMS: tl.constexpr, BLOCK: tl.constexpr
):
    """float32 [programs, 2, OUTPUTS], sums and sums of squares, to the mean and the (biased) variance of `count`.

    In float64, since the variance is a small difference of large numbers where the mean is far from zero.
    """
    output = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    wanted = output < OUTPUTS
    total = tl.zeros((PROGRAMS, BLOCK), tl.float64)
    squares = tl.zeros((PROGRAMS, BLOCK), tl.float64)
    for first in range(0, programs, PROGRAMS):
        program = first + tl.arange(0, PROGRAMS)
        place = partials + program[:, None] * (2 * OUTPUTS) + output[None, :]
        exists = (program < programs)[:, None] & wanted[None, :]
        total += tl.load(place, exists, other=0.0).to(tl.float64)
        squares += tl.load(place + OUTPUTS, exists, other=0.0).to(tl.float64)
    average = tl.sum(total, 0) / count
    spread = tl.sum(squares, 0) / count - average * average
    tl.store(mean + output, average.to(tl.float32), wanted)
    tl.store(variance + output, tl.maximum(spread, 0.0, propagate_nan=tl.PropagateNan.ALL).to(tl.float32), wanted)
