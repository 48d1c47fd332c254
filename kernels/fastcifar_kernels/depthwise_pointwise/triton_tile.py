"""What the three kernels share: a strip of the depthwise convolution, and the operands of the tensor-core product."""

# pyright: basic, reportGeneralTypeIssues=false, reportArgumentType=false, reportAssignmentType=false
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false, reportCallIssue=false
# Triton's language is not Python's: its own loops, constants, tuples.

import triton
import triton.language as tl

INTERPRETED: tl.constexpr = tl.constexpr(triton.knobs.runtime.interpret)


@triton.jit
def relu(value):
    return tl.maximum(value, 0.0, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def cast(value, dtype: tl.constexpr):
    """float32 to `dtype`, to the nearest. The interpreter cuts to bfloat16: there the bits are rounded beforehand."""
    if INTERPRETED and dtype == tl.bfloat16:
        bits = value.to(tl.uint32, bitcast=True)
        value = (bits + 0x7FFF + ((bits >> 16) & 1)).to(tl.float32, bitcast=True)
    return value.to(dtype)


@triton.jit
def rounded(value, dtype: tl.constexpr):
    """`value` as an operand of `dot`, computed once.

    Without the empty instruction the compiler would compute `value` in the layout of the operand, where each of the
    warps along the product's columns repeats the work of the others.
    """
    value = cast(value, dtype)
    if not INTERPRETED and value.dtype.primitive_bitwidth == 16:
        value = tl.inline_asm_elementwise("mov.b32 $0, $1;", "=r,r", [value], dtype=value.dtype, is_pure=False, pack=2)
    return value


@triton.jit
def dot(a, b, sum):
    """sum + a b in float32. The interpreter multiplies the bits of bfloat16: there the rounded operands are widened."""
    if INTERPRETED:
        return tl.dot(a.to(tl.float32), b.to(tl.float32), sum, input_precision="ieee")
    return tl.dot(a, b, sum, input_precision="ieee")


@triton.jit
def depthwise_strip(
    pixel,
    row,
    column,
    inside,
    channel,
    depthwise,
    scale,
    shift,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    CHANNELS: tl.constexpr,
    STRIDE: tl.constexpr,
    DILATION: tl.constexpr,
    ROWS: tl.constexpr,
    NORMALISE: tl.constexpr,
    POSITIONS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The depthwise convolution at ROWS (1 or 2) outputs, one below the other, float32 [POSITIONS, BLOCK] each.

    pixel: pointers to the input pixel under the centre tap of the upper output. row, column: its place. inside: whether
    there is one. An input that both outputs need is loaded, widened and normalised once.
    """
    upper = tl.zeros((POSITIONS, BLOCK), tl.float32)
    lower = tl.zeros((POSITIONS, BLOCK), tl.float32)
    known = channel < CHANNELS
    pointer = pixel[:, None] + channel[None, :]
    if NORMALISE:
        factor = tl.load(scale + channel, known, other=0.0)[None, :]
        summand = tl.load(shift + channel, known, other=0.0)[None, :]
    for j in tl.static_range(3):
        columns = column + (j - 1) * DILATION
        in_columns = inside & (columns >= 0) & (columns < WIDTH)
        for q in tl.static_range((ROWS - 1) * STRIDE + 2 * DILATION + 1):
            if (q % DILATION == 0 and q <= 2 * DILATION) or (
                ROWS == 2 and q >= STRIDE and (q - STRIDE) % DILATION == 0 and q - STRIDE <= 2 * DILATION
            ):
                rows = row + (q - DILATION)
                exists = (in_columns & (rows >= 0) & (rows < HEIGHT))[:, None]
                if CHANNELS % BLOCK:
                    exists = exists & known[None, :]
                offset = ((q - DILATION) * WIDTH + (j - 1) * DILATION) * CHANNELS
                value = tl.load(pointer + offset, exists, other=0.0).to(tl.float32)
                if NORMALISE:  # the padding is zero behind the ReLU, not before it
                    value = tl.where(exists, relu(value * factor + summand), 0.0)
                if q % DILATION == 0 and q <= 2 * DILATION:
                    tap = depthwise + (q // DILATION * 3 + j) * CHANNELS
                    upper += value * tl.load(tap + channel, known, other=0.0)[None, :]
                if ROWS == 2 and q >= STRIDE and (q - STRIDE) % DILATION == 0 and q - STRIDE <= 2 * DILATION:
                    tap = depthwise + ((q - STRIDE) // DILATION * 3 + j) * CHANNELS
                    lower += value * tl.load(tap + channel, known, other=0.0)[None, :]
    return upper, lower
