"""The depthwise backward pass beside oneDNN's."""

import pytest
import torch
from measure import Measure, agree
from needs import need_backend
from record import Work

from fastcifar_kernels.depthwise import BACKENDS

BATCH = 512
TOLERANCE = {"oneDNN": 1e-4, "one pass": 1e-5}
"""Of the gradients in float64."""
LAYERS = {
    "speed": [(96, 2, 1, 2), (96, 4, 1, 2), (96, 4, 2, 1)],
    "accuracy": [(128, 2, 1, 2), (128, 4, 1, 2), (32, 32, 1, 1), (64, 16, 1, 1)],
}
"""Channels, side of the input in pixels, stride, dilation. Without a dilation a run leaves it to oneDNN."""


@pytest.mark.parametrize(
    ("network", "layer"),
    [(network, layer) for network, layers in LAYERS.items() for layer in layers],
    ids=[f"{network} {layer}" for network, layers in LAYERS.items() for layer in layers],
)
def bench_backward(measure: Measure, threads: int, network: str, layer: tuple[int, int, int, int]) -> None:
    need_backend(BACKENDS["cpu"])
    channels, side, stride, dilation = layer
    output = (side - 1) // stride + 1
    x, grad = (
        torch.randn(BATCH, channels, size, size).contiguous(memory_format=torch.channels_last)
        for size in (side, output)
    )
    weight = torch.randn(channels, 1, 3, 3)
    place = [stride] * 2, [dilation] * 2, [dilation] * 2, False, [0, 0], channels, [True, True, False]
    subjects = {
        "oneDNN": lambda: torch.ops.aten.convolution_backward(grad, x, weight, None, *place)[:2],
        "one pass": lambda: torch.ops.fastcifar_kernels.depthwise_backward(grad, x, weight, stride, dilation),
    }

    def check() -> None:
        expected = torch.ops.aten.convolution_backward(grad.double(), x.double(), weight.double(), None, *place)[:2]
        for name, subject in subjects.items():
            agree({"float64": lambda: expected, name: subject}, "float64", TOLERANCE[name])()

    measure(
        f"depthwise backward, {threads} threads: {network}, [{BATCH}, {channels}, {side}, {side}], "
        f"stride {stride}, dilation {dilation}",
        subjects,
        baseline="oneDNN",
        check=check,
        work=Work(bytes_moved=2 * x.nbytes + grad.nbytes, flops=2 * 2 * 9 * grad.numel()),
    )
