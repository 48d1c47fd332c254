"""The operator by the Triton kernels, on CUDA tensors (in Triton's interpreter, on CPU tensors)."""

# pyright: reportCallIssue=false, reportArgumentType=false
# Triton adds the launch's own options to a kernel's arguments, and makes its constants of numbers.

from typing import Any

import torch
import triton
from torch import Tensor

from fastcifar_kernels.depthwise_pointwise.shape import Shape, Tiles, Tiling, power_of_two
from fastcifar_kernels.depthwise_pointwise.triton_backward import depthwise_backward_kernel, pointwise_backward_kernel
from fastcifar_kernels.depthwise_pointwise.triton_forward import forward_kernel, statistics_kernel

OUTPUTS_AT_A_TIME = 128
"""Of the forward kernel: the product's accumulators of more do not fit the registers."""


def forward(
    tiling: Tiling,
    x: Tensor,
    depthwise: Tensor,
    pointwise: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    stride: int,
    dilation: int,
    statistics: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """y, its mean and its variance; see `depthwise_pointwise`."""
    shape = Shape.of(x, pointwise, stride, dilation)
    x = x.contiguous(memory_format=torch.channels_last)
    pointwise, (scale, shift) = pointwise.contiguous(), _dense(scale, shift)
    size = (shape.images, shape.outputs, shape.out_height, shape.out_width)
    y = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    tiles = tiling.forward
    output_block = max(16, min(OUTPUTS_AT_A_TIME, power_of_two(shape.outputs)))
    across = triton.cdiv(shape.outputs, output_block)
    programs = _programs(x.device, tiles, _output_tiles(shape, tiles), across)
    partials = _float(x, programs, 2, shape.outputs) if statistics else None
    forward_kernel[(programs, across)](
        x, _taps_first(depthwise), pointwise, scale, shift, y, partials, shape.images,
        **_sizes(shape), OUTPUTS=shape.outputs, STATISTICS=statistics, OUTPUT_BLOCK=output_block,
        NORMALISE=scale is not None, ROWS=tiles.rows, POSITIONS=tiles.cells, BLOCK=tiles.block,
        num_warps=tiles.warps, num_stages=1, maxnreg=tiles.registers,
    )  # fmt: skip
    if partials is None:
        return y, _float(x, 0), _float(x, 0)
    mean, variance = _float(x, shape.outputs), _float(x, shape.outputs)
    count = shape.images * shape.out_height * shape.out_width
    statistics_kernel[(triton.cdiv(shape.outputs, 32),)](
        partials, mean, variance, programs, count, OUTPUTS=shape.outputs, PROGRAMS=16, BLOCK=32
    )
    return y, mean, variance


def backward(
    tiling: Tiling,
    gradient: Tensor,
    y: Tensor | None,
    intercept: Tensor | None,
    slope: Tensor | None,
    x: Tensor,
    depthwise: Tensor,
    pointwise: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    stride: int,
    dilation: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The gradients of x, depthwise, pointwise, scale and shift; see `reference.backward`."""
    shape = Shape.of(x, pointwise, stride, dilation)
    x = x.contiguous(memory_format=torch.channels_last)
    gradient = gradient.contiguous(memory_format=torch.channels_last)
    if y is not None:
        y = y.contiguous(memory_format=torch.channels_last)
    pointwise, (scale, shift, intercept, slope) = pointwise.contiguous(), _dense(scale, shift, intercept, slope)
    taps = _taps_first(depthwise)
    normalise = scale is not None

    tiles = tiling.pointwise_backward
    across = triton.cdiv(shape.channels, tiles.block)
    programs = _programs(x.device, tiles, _output_tiles(shape, tiles), across)
    size = (shape.images, shape.channels, shape.out_height, shape.out_width)
    z_gradient = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    products = _float(x, programs, shape.outputs, shape.channels)
    pointwise_backward_kernel[(programs, across)](
        gradient, y, intercept, slope, x, taps, pointwise, scale, shift, z_gradient, products, shape.images,
        **_sizes(shape), OUTPUTS=shape.outputs, STATISTICS=y is not None,
        OUTPUT_BLOCK=max(16, power_of_two(shape.outputs)),
        NORMALISE=normalise, ROWS=tiles.rows, POSITIONS=tiles.cells, BLOCK=tiles.block,
        num_warps=tiles.warps, num_stages=1, maxnreg=tiles.registers,
    )  # fmt: skip

    tiles = tiling.depthwise_backward
    across = triton.cdiv(shape.channels, tiles.block)
    cells = triton.cdiv(shape.height, tiles.rows) * triton.cdiv(shape.width, tiles.columns)
    programs = _programs(x.device, tiles, triton.cdiv(shape.images * cells, tiles.cells), across)
    x_gradient = torch.empty_like(x, memory_format=torch.channels_last)
    sums = _float(x, programs, 11 if normalise else 9, shape.channels)
    depthwise_backward_kernel[(programs, across)](
        z_gradient, x, taps, scale, shift, x_gradient, sums, shape.images,
        **_sizes(shape), NORMALISE=normalise, ROWS=tiles.rows, COLUMNS=tiles.columns, CELLS=tiles.cells,
        BLOCK=tiles.block, num_warps=tiles.warps, num_stages=1, maxnreg=tiles.registers,
    )  # fmt: skip
    summed = sums.sum(0)
    depthwise_gradient = summed[:9].t().contiguous().view(depthwise.shape)
    pointwise_gradient = products.sum(0).reshape(pointwise.shape)
    vectors = (summed[9].clone(), summed[10].clone()) if normalise else (_float(x, 0), _float(x, 0))
    return x_gradient, depthwise_gradient, pointwise_gradient, *vectors


def _output_tiles(shape: Shape, tiles: Tiles) -> int:
    strips = triton.cdiv(shape.out_height, tiles.rows) * shape.out_width
    return triton.cdiv(shape.images * strips, tiles.cells)


def _programs(device: torch.device, tiles: Tiles, work: int, across: int) -> int:
    on_gpu = device.type == "cuda"  # else in the interpreter: a few programs, so that each has several tiles
    multiprocessors = torch.cuda.get_device_properties(device).multi_processor_count if on_gpu else 2
    return max(1, min(work, tiles.waves * multiprocessors // across))


def _taps_first(depthwise: Tensor) -> Tensor:
    """float32 [C, 1, 3, 3] -> [9, C]: a warp reads a tap's weights side by side."""
    return depthwise.reshape(-1, 9).t().contiguous()


def _dense(*tensors: Tensor | None) -> list[Tensor | None]:
    return [None if tensor is None else tensor.contiguous() for tensor in tensors]


def _sizes(shape: Shape) -> dict[str, Any]:
    return {
        "HEIGHT": shape.height,
        "WIDTH": shape.width,
        "CHANNELS": shape.channels,
        "STRIDE": shape.stride,
        "DILATION": shape.dilation,
    }


def _float(like: Tensor, *size: int) -> Tensor:
    return torch.empty(size, dtype=torch.float32, device=like.device)
