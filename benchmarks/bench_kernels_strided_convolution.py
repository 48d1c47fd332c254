"""The backward pass of 3x3 convolutions with stride 2 beside oneDNN's, each in turn."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from in_turn import in_turn, threads_of

from fastcifar_kernels.strided_convolution import BACKENDS

BATCH = 256
LAYERS = [(24, 32, 32, False), (24, 32, 16, False), (48, 64, 16, True), (48, 64, 8, True)]
"""Channels in and out, side of the input in pixels, and whether it needs a gradient: `speed`, images of 32 and 16."""


@pytest.fixture(params=[1, None], ids=["1 thread", "all threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    yield from threads_of(request.param, BACKENDS["cpu"])


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def bench_backward(benchmark: Any, threads: int, layer: tuple[int, int, int, bool]) -> None:
    inputs, outputs, side, needs_dx = layer
    benchmark.group = (
        f"stride 2 backward, {threads} threads: {inputs} to {outputs} channels, {side} x {side}, "
        + "both gradients" * needs_dx
        + "the weight's" * (not needs_dx)
    )
    x, grad = (
        torch.randn(BATCH, channels, size, size).contiguous(memory_format=torch.channels_last)
        for channels, size in ((inputs, side), (outputs, side // 2))
    )
    weight = torch.randn(outputs, inputs, 3, 3).contiguous(memory_format=torch.channels_last)
    place = [2, 2], [1, 1], [1, 1], False, [0, 0], 1, [needs_dx, True, False]
    subjects = {
        "oneDNN": lambda: torch.ops.aten.convolution_backward(grad, x, weight, None, *place),
        "in the cache": lambda: torch.ops.fastcifar_kernels.strided_convolution_backward(grad, x, weight, needs_dx),
    }
    in_turn(benchmark, subjects, repeats=3)
