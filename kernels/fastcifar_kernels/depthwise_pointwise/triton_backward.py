"""The two backward kernels; between them lies only the depthwise result's gradient."""

# pyright: basic, reportGeneralTypeIssues=false, reportArgumentType=false, reportAssignmentType=false
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false, reportCallIssue=false
# ruff: noqa: RUF005, SIM108
# Triton's language is not Python's: its own loops, constants, tuples.

import triton
import triton.language as tl

from fastcifar_kernels.depthwise_pointwise.triton_tile import cast, depthwise_strip, dot, relu, rounded


@triton.jit
def _output_gradient(gradient, y, place, exists, intercept, slope, output, wanted, STATISTICS: tl.constexpr):
    """The gradient of y with what flows through its mean and variance: gradient + intercept + slope y."""
    value = tl.load(gradient + place, exists, other=0.0).to(tl.float32)
    if STATISTICS:
        # Loaded here and not before the loop: there they would take registers from it.
        summand = tl.load(intercept + output, wanted, other=0.0)[None, :]
        factor = tl.load(slope + output, wanted, other=0.0)[None, :]
        stored = tl.load(y + place, exists, other=0.0).to(tl.float32)
        value = tl.where(exists, value + summand + factor * stored, 0.0)
    return rounded(value, gradient.dtype.element_ty)


@triton.jit(do_not_specialize=["images"])
def pointwise_backward_kernel(
    gradient,
    y,
    intercept,
    slope,
    x,
    depthwise,
    pointwise,
    scale,
    shift,
    z_gradient,
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
    """The depthwise result's gradient, and the pointwise weights': z_gradient = gradient W, partials = gradient' z.

    Program (i, j) takes every num_programs(0)-th tile from i on, for BLOCK of the channels from j BLOCK on; it computes
    the depthwise result z again. gradient, y: [images, ., ., OUTPUTS]. intercept, slope: float32 [OUTPUTS].
    z_gradient: [images, ., ., CHANNELS]. partials: float32 [num_programs(0), OUTPUTS, CHANNELS].
    """
    OUT_HEIGHT: tl.constexpr = (HEIGHT - 1) // STRIDE + 1
    OUT_WIDTH: tl.constexpr = (WIDTH - 1) // STRIDE + 1
    STRIPS: tl.constexpr = (OUT_HEIGHT + ROWS - 1) // ROWS * OUT_WIDTH
    output = tl.arange(0, OUTPUT_BLOCK)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    wanted, known = output < OUTPUTS, channel < CHANNELS
    matrix = output[:, None] * CHANNELS + channel[None, :]
    in_matrix = wanted[:, None] & known[None, :]
    weights = cast(tl.load(pointwise + matrix, in_matrix, other=0.0), x.dtype.element_ty)
    weight_gradient = tl.zeros((OUTPUT_BLOCK, BLOCK), tl.float32)
    for tile in range(tl.program_id(0), tl.cdiv(images * STRIPS, POSITIONS), tl.num_programs(0)):
        position = tile * POSITIONS + tl.arange(0, POSITIONS)
        image = position // STRIPS
        strip = position % STRIPS
        row, column = strip // OUT_WIDTH * ROWS, strip % OUT_WIDTH
        inside = image < images
        centre = row * STRIDE * WIDTH + column * STRIDE
        pixel = x + image.to(tl.int64) * (HEIGHT * WIDTH * CHANNELS) + centre * CHANNELS
        upper_z, lower_z = depthwise_strip(
            pixel, row * STRIDE, column * STRIDE, inside, channel, depthwise, scale, shift,
            HEIGHT, WIDTH, CHANNELS, STRIDE, DILATION, ROWS, NORMALISE, POSITIONS, BLOCK,
        )  # fmt: skip
        base = image.to(tl.int64) * (OUT_HEIGHT * OUT_WIDTH) + row * OUT_WIDTH + column
        for r in tl.static_range(ROWS):
            exists = (inside & (row + r < OUT_HEIGHT))[:, None]
            place = ((base + r * OUT_WIDTH) * OUTPUTS)[:, None] + output[None, :]
            incoming = _output_gradient(
                gradient, y, place, exists & wanted[None, :], intercept, slope, output, wanted, STATISTICS
            )
            if r == 0:
                z = rounded(upper_z, x.dtype.element_ty)
            else:
                z = rounded(lower_z, x.dtype.element_ty)
            weight_gradient = dot(tl.trans(incoming), z, weight_gradient)
            below = dot(incoming, weights, tl.zeros((POSITIONS, BLOCK), tl.float32))
            place = ((base + r * OUT_WIDTH) * CHANNELS)[:, None] + channel[None, :]
            tl.store(z_gradient + place, cast(below, z_gradient.dtype.element_ty), exists & known[None, :])
    tl.store(partials + tl.program_id(0) * (OUTPUTS * CHANNELS) + matrix, weight_gradient, in_matrix)


@triton.jit
def _add(sums, INDEX: tl.constexpr, term):
    """The tuple `sums` with `term` added to one of its elements."""
    return sums[:INDEX] + (sums[INDEX] + term,) + sums[INDEX + 1 :]


@triton.jit(do_not_specialize=["images"])
def depthwise_backward_kernel(
    z_gradient,
    x,
    depthwise,
    scale,
    shift,
    x_gradient,
    partials,
    images,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    CHANNELS: tl.constexpr,
    STRIDE: tl.constexpr,
    DILATION: tl.constexpr,
    NORMALISE: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    CELLS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The gradients of x, of the depthwise weights, and of scale and shift, in one pass over z_gradient.

    A cell is ROWS x COLUMNS (1 or 2 each, STRIDE or its multiple) input pixels: what one pixel of z_gradient means to
    all of them is loaded once, and with stride 2 no tap meets a gap. Nine sums of products stay in registers from tile
    to tile. partials: float32 [num_programs(0), 9 or 11, CHANNELS]: nine taps; scale, shift.
    """
    OUT_HEIGHT: tl.constexpr = (HEIGHT - 1) // STRIDE + 1
    OUT_WIDTH: tl.constexpr = (WIDTH - 1) // STRIDE + 1
    ACROSS: tl.constexpr = (WIDTH + COLUMNS - 1) // COLUMNS
    CELLS_OF_IMAGE: tl.constexpr = (HEIGHT + ROWS - 1) // ROWS * ACROSS
    # A cell's pixel (r, t) under tap (i, j) belongs to z at (r + DILATION (1 - i)) / STRIDE, if that is whole.
    FIRST: tl.constexpr = -(DILATION // STRIDE)
    LAST_ROW: tl.constexpr = (ROWS - 1 + DILATION) // STRIDE
    LAST_COLUMN: tl.constexpr = (COLUMNS - 1 + DILATION) // STRIDE
    SUMS: tl.constexpr = 11 if NORMALISE else 9
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    known = channel < CHANNELS
    if NORMALISE:
        factor = tl.load(scale + channel, known, other=0.0)[None, :]
        summand = tl.load(shift + channel, known, other=0.0)[None, :]
    zero = tl.zeros((CELLS, BLOCK), tl.float32)
    taps = (zero, zero, zero, zero, zero, zero, zero, zero, zero)
    scale_gradient, shift_gradient = zero, zero
    for tile in range(tl.program_id(0), tl.cdiv(images * CELLS_OF_IMAGE, CELLS), tl.num_programs(0)):
        cell = tile * CELLS + tl.arange(0, CELLS)
        image = cell // CELLS_OF_IMAGE
        place = cell % CELLS_OF_IMAGE
        row, column = place // ACROSS * ROWS, place % ACROSS * COLUMNS
        inside = image < images
        pixel = image.to(tl.int64) * (HEIGHT * WIDTH * CHANNELS) + (row * WIDTH + column) * CHANNELS
        pixel = pixel[:, None] + channel[None, :]
        z_row, z_column = row // STRIDE, column // STRIDE
        z = image.to(tl.int64) * (OUT_HEIGHT * OUT_WIDTH * CHANNELS) + (z_row * OUT_WIDTH + z_column) * CHANNELS
        z = z_gradient + z[:, None] + channel[None, :]
        raw, value, below = (), (), ()
        for r in tl.static_range(ROWS):
            for t in tl.static_range(COLUMNS):
                exists = (inside & (row + r < HEIGHT) & (column + t < WIDTH))[:, None] & known[None, :]
                loaded = tl.load(x + pixel + (r * WIDTH + t) * CHANNELS, exists, other=0.0).to(tl.float32)
                raw = raw + (loaded,)
                value = value + (tl.where(exists, relu(loaded * factor + summand), 0.0) if NORMALISE else loaded,)
                below = below + (zero,)
        for u in tl.static_range(FIRST, LAST_ROW + 1):
            for v in tl.static_range(FIRST, LAST_COLUMN + 1):
                at_row, at_column = z_row + u, z_column + v
                exists = inside & (at_row >= 0) & (at_row < OUT_HEIGHT) & (at_column >= 0) & (at_column < OUT_WIDTH)
                exists = exists[:, None] & known[None, :]
                gradient = tl.load(z + (u * OUT_WIDTH + v) * CHANNELS, exists, other=0.0).to(tl.float32)
                for r in tl.static_range(ROWS):
                    for t in tl.static_range(COLUMNS):
                        for i in tl.static_range(3):
                            for j in tl.static_range(3):
                                if (r + DILATION * (1 - i) == u * STRIDE) and (t + DILATION * (1 - j) == v * STRIDE):
                                    weight = tl.load(depthwise + (i * 3 + j) * CHANNELS + channel, known, other=0.0)
                                    below = _add(below, r * COLUMNS + t, gradient * weight[None, :])
                                    taps = _add(taps, i * 3 + j, gradient * value[r * COLUMNS + t])
        for r in tl.static_range(ROWS):
            for t in tl.static_range(COLUMNS):
                exists = (inside & (row + r < HEIGHT) & (column + t < WIDTH))[:, None] & known[None, :]
                passed = below[r * COLUMNS + t]
                if NORMALISE:
                    passed = tl.where(value[r * COLUMNS + t] > 0.0, passed, 0.0)
                    scale_gradient += passed * raw[r * COLUMNS + t]
                    shift_gradient += passed
                    passed *= factor
                place = pixel + (r * WIDTH + t) * CHANNELS
                tl.store(x_gradient + place, cast(passed, x_gradient.dtype.element_ty), exists)
    row_of_partials = partials + tl.program_id(0) * (SUMS * CHANNELS) + channel
    for tap in tl.static_range(9):
        tl.store(row_of_partials + tap * CHANNELS, tl.sum(taps[tap], 0), known)
    if NORMALISE:
        tl.store(row_of_partials + 9 * CHANNELS, tl.sum(scale_gradient, 0), known)
        tl.store(row_of_partials + 10 * CHANNELS, tl.sum(shift_gradient, 0), known)
