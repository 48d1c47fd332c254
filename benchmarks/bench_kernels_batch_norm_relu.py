"""Batch-norm and ReLU in one operator beside torch's own; each in turn."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from in_turn import in_turn, threads_of
from torch import Tensor, nn

from fastcifar_kernels.batch_norm_relu import BACKENDS, batch_norm_relu

BATCH = 256
MAPS = {
    "speed": [(32, 16, False), (48, 16, False), (64, 8, False), (96, 8, False), (96, 4, False), (96, 4, True)],
    "accuracy": [(32, 32, True), (64, 16, True), (128, 8, True), (128, 4, True)],
}
"""Channels, side in pixels, residual; of images of 32 pixels."""


@pytest.fixture(params=[1, None], ids=["1 thread", "all threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    yield from threads_of(request.param, BACKENDS["cpu"])


@pytest.mark.parametrize(
    ("network", "layer"),
    [(network, layer) for network, layers in MAPS.items() for layer in layers],
    ids=[f"{network} {layer}" for network, layers in MAPS.items() for layer in layers],
)
def bench_forward_and_backward(benchmark: Any, threads: int, network: str, layer: tuple[int, int, bool]) -> None:
    channels, side, residual = layer
    benchmark.group = f"batch-norm and ReLU, {threads} threads: {network}, [{BATCH}, {channels}, {side}, {side}]" + (
        ", residual" * residual
    )
    x, added, grad = (
        torch.randn(BATCH, channels, side, side).contiguous(memory_format=torch.channels_last) for _ in range(3)
    )
    norm = nn.BatchNorm2d(channels)
    inputs = [x.requires_grad_(), norm.weight, norm.bias, *([added.requires_grad_()] if residual else [])]

    def torchs() -> Tensor:
        y = norm(x)
        return F.relu(y + added if residual else y, inplace=True)

    def fused() -> Tensor:
        return batch_norm_relu(x, norm.weight, norm.bias, norm.eps, added if residual else None)[0]

    subjects = {
        "torch": lambda: torch.autograd.grad(torchs(), inputs, grad),
        "one operator": lambda: torch.autograd.grad(fused(), inputs, grad),
    }
    in_turn(benchmark, subjects, repeats=3)
