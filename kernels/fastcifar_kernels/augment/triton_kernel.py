"""`augment` in Triton: a program an image, a tile of rows at a time, an element of the tile one channel of a pixel.

So the stores are contiguous, and what depends on a column or a row alone is computed once for it. Arithmetic on
levels is float32; places are the fixed-point sums of include/bilinear.h.
"""

import torch
import triton
import triton.language as tl

SIDE: tl.constexpr = tl.constexpr(32)
PIXEL: tl.constexpr = tl.constexpr(1 << 21)
LAST: tl.constexpr = tl.constexpr(31 << 21)
ROUND: tl.constexpr = tl.constexpr(1.5 * 2**52)
"""Added to a float64 and subtracted again, it leaves the nearest whole number."""

ROWS_AT_A_TIME = 4
WARPS = 8


@triton.jit
def _unit(word):
    return (word >> 8).to(tl.float32) * (2.0**-24)


@triton.jit
def _symmetric(word):
    return _unit(word) * 2.0 - 1.0


@triton.jit
def _factor(v, reach):
    """1 + v * reach with both roundings: the sum is exact in float64, and in two steps no compiler contracts it."""
    product = v * reach
    return (2.0 + (product.to(tl.float64) - 1.0)).to(tl.float32)


@triton.jit
def _sine_cosine(degrees):
    """Of an angle within +-180 degrees, float64: Taylor's polynomials about the nearest quarter turn."""
    quarter = (degrees / 90.0 + ROUND) - ROUND
    r = (degrees - 90.0 * quarter) * 0.017453292519943295
    z = r * r
    sine = z * (-1 / 39916800.0 + z * (1 / 6227020800.0 - z / 1307674368000.0))
    sine = r + r * z * (-1 / 6.0 + z * (1 / 120.0 + z * (-1 / 5040.0 + z * (1 / 362880.0) + z * sine)))
    cosine = z * (1 / 479001600.0 + z * (-1 / 87178291200.0 + z / 20922789888000.0))
    cosine = z * (-1 / 720.0 + z * (1 / 40320.0 + z * (-1 / 3628800.0 + cosine)))
    cosine = 1.0 - z * 0.5 + z * z * (1 / 24.0 + cosine)
    turned = (quarter.to(tl.int32) & 1) != 0
    back = (quarter.to(tl.int32) & 2) != 0
    s, c = tl.where(turned, cosine, sine), tl.where(turned, -sine, cosine)
    return tl.where(back, -s, s), tl.where(back, -c, c)


@triton.jit
def _share(place, REFLECT: tl.constexpr):
    """A column's or a row's share of a place, in fixed point; under reflection less whole periods of 62 pixels."""
    if REFLECT:
        place -= 62.0 * ((place * (1 / 62.0) + ROUND) - ROUND)
    return ((place * PIXEL + ROUND) - ROUND).to(tl.int32)


@triton.jit
def _inside(place, REFLECT: tl.constexpr):
    if REFLECT:
        return -tl.abs(tl.abs(place) - LAST) + LAST
    return tl.minimum(tl.maximum(place, -PIXEL), LAST + PIXEL)


@triton.jit
def _first_pixel(edge, SIZE: tl.constexpr):
    return (SIZE * edge + 15) // 32


@triton.jit
def _bilinear(image, channel, x, y, inside, REFLECT: tl.constexpr):
    """Level of a channel at places (x, y), float32; `inside` masks the tile."""
    left, top = x >> 21, y >> 21
    right, bottom = left + 1, top + 1
    if REFLECT:  # a tap beyond the edge has no weight
        right, bottom = tl.minimum(right, 31), tl.minimum(bottom, 31)
        has_left, has_right, has_top, has_bottom = inside, inside, inside, inside
    else:
        has_left, has_right = (left >= 0) & (left < 32), right < 32
        has_top, has_bottom = inside & (top >= 0) & (top < 32), inside & (bottom < 32)
    upper, lower = image + (top * 96 + channel), image + (bottom * 96 + channel)
    top_left = tl.load(upper + left * 3, has_top & has_left, other=0).to(tl.float32)
    top_right = tl.load(upper + right * 3, has_top & has_right, other=0).to(tl.float32)
    bottom_left = tl.load(lower + left * 3, has_bottom & has_left, other=0).to(tl.float32)
    bottom_right = tl.load(lower + right * 3, has_bottom & has_right, other=0).to(tl.float32)
    share_x = (x & (PIXEL - 1)).to(tl.float32) * (2.0**-21)
    share_y = (y & (PIXEL - 1)).to(tl.float32) * (2.0**-21)
    a = top_left + share_y * (bottom_left - top_left)
    b = top_right + share_y * (bottom_right - top_right)
    return a + share_x * (b - a)


@triton.jit(do_not_specialize=["seed", "stored"])
def augment_kernel(
    images,
    indices,
    output,
    draws,
    stored,
    seed,
    epoch,
    p_flip,
    p_affine,
    p_dropout,
    p_gray,
    max_angle,
    max_scale,
    max_shift,
    subtract_r,
    subtract_g,
    subtract_b,
    multiply_r,
    multiply_g,
    multiply_b,
    hole_r,
    hole_g,
    hole_b,
    DROPOUT_SIZE: tl.constexpr,
    BY_AXIS: tl.constexpr,
    REFLECT: tl.constexpr,
    SIZE: tl.constexpr,
    ROW: tl.constexpr,
    ROWS: tl.constexpr,
    RETURN_DRAWS: tl.constexpr,
):
    """One image; the arguments are those of the operator, float32, with 32 shift for `shift`.

    ROW: the power of two that holds 3 * SIZE elements. ROWS: of the tile.
    """
    b = tl.program_id(0).to(tl.int64)
    index = tl.load(indices + b)
    known = (index >= 0) & (index < stored)
    word, number, zero = index.to(tl.uint32), tl.load(epoch).to(tl.uint32), tl.full((), 0, tl.uint32)
    key = seed.to(tl.int64)
    flip_word, affine_word, dropout_word, gray_word = tl.philox(key, word, number, zero, zero)
    angle_word, scale_word, shift_x_word, shift_y_word = tl.philox(key, word, number, zero + 1, zero)
    hole_x_word, hole_y_word, scale_y_word, _ = tl.philox(key, word, number, zero + 2, zero)

    flip, affine = _unit(flip_word) < p_flip, _unit(affine_word) < p_affine
    dropout, gray = _unit(dropout_word) < p_dropout, _unit(gray_word) < p_gray
    hole_x = ((hole_x_word >> 8).to(tl.int32) * (33 - DROPOUT_SIZE)) >> 24
    hole_y = ((hole_y_word >> 8).to(tl.int32) * (33 - DROPOUT_SIZE)) >> 24
    angle = tl.where(affine, _symmetric(angle_word) * max_angle, 0.0)
    scale_x = tl.where(affine, _factor(_symmetric(scale_word), max_scale), 1.0)
    shift_x, shift_y = _symmetric(shift_x_word) * max_shift, _symmetric(shift_y_word) * max_shift
    scale_y = scale_x
    if BY_AXIS:
        scale_y = tl.where(affine, _factor(_symmetric(scale_y_word), max_scale), 1.0)
        shift_x, shift_y = shift_x.to(tl.int32).to(tl.float32), shift_y.to(tl.int32).to(tl.float32)
    shift_x, shift_y = tl.where(affine, shift_x, 0.0), tl.where(affine, shift_y, 0.0)
    if RETURN_DRAWS:
        table = draws + b * 11
        tl.store(table, flip.to(tl.float32))
        tl.store(table + 1, affine.to(tl.float32))
        tl.store(table + 2, angle)
        tl.store(table + 3, scale_x)
        tl.store(table + 4, scale_y)
        tl.store(table + 5, shift_x)
        tl.store(table + 6, shift_y)
        tl.store(table + 7, dropout.to(tl.float32))
        tl.store(table + 8, hole_x.to(tl.float32))
        tl.store(table + 9, hole_y.to(tl.float32))
        tl.store(table + 10, gray.to(tl.float32))

    sine, cosine = _sine_cosine(angle.to(tl.float64))
    along_x, along_y = 1.0 / scale_x.to(tl.float64), 1.0 / scale_y.to(tl.float64)
    xx, xy, yx, yy = cosine * along_x, -sine * along_x, sine * along_y, cosine * along_y
    x0 = -(xx * shift_x.to(tl.float64) + xy * shift_y.to(tl.float64))
    y0 = 15.5 - (yx * shift_x.to(tl.float64) + yy * shift_y.to(tl.float64))
    mirror = tl.where(flip, -1.0, 1.0).to(tl.float64)
    xx, xy, x0 = xx * mirror, xy * mirror, x0 * mirror + 15.5

    element = tl.arange(0, ROW)
    column, channel = element // 3, element % 3
    u = (column.to(tl.float64) + 0.5) * (32.0 / SIZE) - 16.0
    column_x, column_y = _share(xx * u, REFLECT), _share(yx * u, REFLECT)
    subtract = tl.where(channel == 0, subtract_r, tl.where(channel == 1, subtract_g, subtract_b))[None, :]
    multiply = tl.where(channel == 0, multiply_r, tl.where(channel == 1, multiply_g, multiply_b))[None, :]
    hole = tl.where(channel == 0, hole_r, tl.where(channel == 1, hole_g, hole_b))[None, :]
    hole_size = tl.where(dropout, DROPOUT_SIZE, 0)
    columns_of_hole = (column >= _first_pixel(hole_x, SIZE)) & (column < _first_pixel(hole_x + hole_size, SIZE))
    image = images + tl.where(known, index, 0) * (32 * 32 * 3)
    output += b * (SIZE * SIZE * 3)
    for first in range(0, SIZE, ROWS):
        row = first + tl.arange(0, ROWS)
        v = (row.to(tl.float64) + 0.5) * (32.0 / SIZE) - 16.0
        row_x, row_y = _share(xy * v + x0, REFLECT), _share(yy * v + y0, REFLECT)
        x = _inside(column_x[None, :] + row_x[:, None], REFLECT)
        y = _inside(column_y[None, :] + row_y[:, None], REFLECT)
        inside = (row < SIZE)[:, None] & (column < SIZE)[None, :]
        rows_of_hole = (row >= _first_pixel(hole_y, SIZE)) & (row < _first_pixel(hole_y + hole_size, SIZE))
        in_hole = rows_of_hole[:, None] & columns_of_hole[None, :]
        if gray:
            red = tl.where(in_hole, hole_r, _bilinear(image, 0, x, y, inside, REFLECT))
            green = tl.where(in_hole, hole_g, _bilinear(image, 1, x, y, inside, REFLECT))
            blue = tl.where(in_hole, hole_b, _bilinear(image, 2, x, y, inside, REFLECT))
            level = red * 0.299 + green * 0.587 + blue * 0.114
        else:
            level = tl.where(in_hole, hole, _bilinear(image, channel[None, :], x, y, inside, REFLECT))
        level = tl.where(known, (level - subtract) * multiply, float("nan"))
        place = row[:, None] * (3 * SIZE) + element[None, :]
        tl.store(output + place, level.to(output.dtype.element_ty), inside)


def launch(
    images: torch.Tensor,
    indices: torch.Tensor,
    seed: int,
    epoch: torch.Tensor,
    flip: float,
    affine: float,
    rotate_degrees: float,
    shift: float,
    scale: float,
    by_axis: bool,
    reflect: bool,
    dropout: float,
    dropout_size: int,
    gray: float,
    hole_levels: list[float],
    mean: list[float],
    std: list[float],
    size: int,
    dtype: torch.dtype,
    return_draws: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The operator on CUDA tensors (in Triton's interpreter, on CPU tensors); see `augment`."""
    count = len(indices)
    output = images.new_empty((count, size, size, 3), dtype=dtype)
    draws = images.new_empty((count if return_draws else 0, 11), dtype=torch.float32)
    if count:
        augment_kernel[(count,)](
            images,
            indices,
            output,
            draws,
            len(images),
            seed,
            epoch,
            flip,
            affine,
            dropout,
            gray,
            rotate_degrees,
            scale,
            shift * SIDE.value,
            *mean,
            *(1 / channel for channel in std),
            *hole_levels,
            DROPOUT_SIZE=dropout_size,
            BY_AXIS=by_axis,
            REFLECT=reflect,
            SIZE=size,
            ROW=triton.next_power_of_2(3 * size),
            ROWS=ROWS_AT_A_TIME,
            RETURN_DRAWS=return_draws,
            num_warps=WARPS,  # pyright: ignore[reportCallIssue]
        )
    return output.permute(0, 3, 1, 2), draws
