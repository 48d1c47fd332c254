"""The backward pass of 3x3 convolutions with stride 2 beside oneDNN's."""

import pytest
import torch
from measure import Measure, agree
from needs import need_backend
from record import Work

from fastcifar_kernels.strided_convolution import BACKENDS

BATCH = 256
LAYERS = [(24, 32, 16, False), (24, 32, 32, False), (48, 64, 8, True), (48, 64, 16, True)]
"""Channels in and out, side of the input in pixels, and whether it needs a gradient: `speed`, images of 16 and 32."""


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def bench_backward(measure: Measure, threads: int, layer: tuple[int, int, int, bool]) -> None:
    need_backend(BACKENDS["cpu"])
    inputs, outputs, side, needs_dx = layer
    x, grad = (
        torch.randn(BATCH, channels, size, size).contiguous(memory_format=torch.channels_last)
        for channels, size in ((inputs, side), (outputs, side // 2))
    )
    weight = torch.randn(outputs, inputs, 3, 3).contiguous(memory_format=torch.channels_last)
    place = [2, 2], [1, 1], [1, 1], False, [0, 0], 1, [needs_dx, True, False]
    subjects = {
        "oneDNN": lambda: torch.ops.aten.convolution_backward(grad, x, weight, None, *place)[:2][not needs_dx :],
        "in the cache": lambda: torch.ops.fastcifar_kernels.strided_convolution_backward(grad, x, weight, needs_dx)[
            not needs_dx :
        ],
    }
    measure(
        f"stride 2 backward, {threads} threads: {inputs} to {outputs} channels, {side} x {side}, "
        + ("both gradients" if needs_dx else "the weight's"),
        subjects,
        baseline="oneDNN",
        check=agree(subjects, "oneDNN", 1e-5),
        work=Work(
            bytes_moved=x.nbytes * (1 + needs_dx) + grad.nbytes,
            flops=2 * 9 * inputs * grad.numel() * (1 + needs_dx),
        ),
    )
