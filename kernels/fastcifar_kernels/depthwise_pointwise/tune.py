"""The best tiles of the three kernels for one shape: a few are tried, one kernel's at a time."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from fastcifar_kernels.depthwise_pointwise.shape import Shape, Tiles, Tiling, default_tiling

Measure = Callable[[Sequence[Callable[[], object]]], list[float]]
"""Seconds that each of some pieces of work takes; infinity for one that does not run."""

LEAST_CELLS = 16
"""The least rows of a tensor-core product."""

_Variations = tuple[dict[str, float], ...]
_WAVES: _Variations = ({}, {"waves": 2}, {"waves": 0.5})
_PRODUCT: _Variations = (*_WAVES, {"cells": 2}, {"cells": 0.5, "warps": 0.5}, {"rows": 0.5})
VARIATIONS: dict[str, _Variations] = {
    "forward": _PRODUCT,
    "pointwise_backward": _PRODUCT,
    "depthwise_backward": (*_WAVES, {"cells": 2, "warps": 2}, {"cells": 0.5}),
}
"""What is tried of each kernel: factors to its default tiles, which come first."""


def candidates(tiling: Tiling, kernel: str) -> list[Tiling]:
    """`tiling` with one kernel's tiles varied, itself first, and none too small for the kernel."""
    tiles: Tiles = getattr(tiling, kernel)
    varied = [
        replace(tiles, **{name: int(getattr(tiles, name) * factor) for name, factor in variation.items()})
        for variation in VARIATIONS[kernel]
    ]
    return [replace(tiling, **{kernel: one}) for one in varied if one.rows and one.waves and one.cells >= LEAST_CELLS]


def best_tiling(shape: Shape, dtype: torch.dtype, device: torch.device, measure: Measure) -> Tiling:
    """The fastest candidate of each kernel, forward and then backward; the default where none of them runs.

    dtype: of x, bfloat16 or float16.
    """
    from fastcifar_kernels.depthwise_pointwise import launch

    def maps(channels: int, height: int, width: int) -> Tensor:
        size = (shape.images, channels, height, width)
        return torch.randn(size, dtype=dtype, device=device).contiguous(memory_format=torch.channels_last)

    def numbers(*size: int) -> Tensor:
        return torch.randn(size, device=device)

    x = maps(shape.channels, shape.height, shape.width)
    y, gradient = (maps(shape.outputs, shape.out_height, shape.out_width) for _ in range(2))
    weights = numbers(shape.channels, 1, 3, 3), numbers(shape.outputs, shape.channels, 1, 1)
    call = x, *weights, None, None, shape.stride, shape.dilation

    def forward(tiling: Tiling) -> object:
        return launch.forward(tiling, *call, statistics=True)

    intercept, slope = numbers(shape.outputs), numbers(shape.outputs)

    def backward(tiling: Tiling) -> object:
        return launch.backward(tiling, gradient, y, intercept, slope, *call)

    best = default_tiling(shape)
    work = {"forward": forward, "pointwise_backward": backward, "depthwise_backward": backward}
    for kernel, pass_through in work.items():
        trials = candidates(best, kernel)
        seconds = measure([partial(pass_through, trial) for trial in trials])
        best = trials[seconds.index(min(seconds))]
    return best
