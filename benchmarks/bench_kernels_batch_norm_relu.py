"""Batch-norm and ReLU in one operator beside torch's own, forward and backward."""

import pytest
import torch
import torch.nn.functional as F
from measure import Measure, agree
from needs import need_backend
from record import Work
from torch import Tensor, nn

from fastcifar_kernels.batch_norm_relu import BACKENDS, batch_norm_relu

BATCH = 256
MAPS = {
    "speed": [(96, 4, False), (96, 4, True), (96, 8, False), (64, 8, False), (48, 16, False), (32, 16, False)],
    "accuracy": [(128, 4, True), (128, 8, True), (64, 16, True), (32, 32, True)],
}
"""Channels, side in pixels, residual; of images of 32 pixels."""
TOLERANCE = {"torch": 1e-4, "one operator": 1e-6}
"""Of results and gradients in float64. Torch's moments of large maps are off by some 1e-5."""
UNDECIDED = 1e-4
"""Where the ReLU's input is nearer to 0, rounding decides whether a gradient passes, so none is given."""


@pytest.mark.parametrize(
    ("network", "layer"),
    [(network, layer) for network, layers in MAPS.items() for layer in layers],
    ids=[f"{network} {layer}" for network, layers in MAPS.items() for layer in layers],
)
def bench_forward_and_backward(measure: Measure, threads: int, network: str, layer: tuple[int, int, bool]) -> None:
    need_backend(BACKENDS["cpu"])
    channels, side, residual = layer
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

    forward = {"torch": torchs, "one operator": fused}
    subjects = {name: lambda make=make: torch.autograd.grad(make(), inputs, grad) for name, make in forward.items()}

    def check() -> None:
        exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
        y = F.batch_norm(exact[0], None, None, *exact[1:3], training=True, eps=norm.eps)
        y = y + exact[3] if residual else y
        grad[y.abs() < UNDECIDED] = 0  # in place: what is timed is what was checked
        y = F.relu(y)
        expected = [y.detach(), *torch.autograd.grad(y, exact, grad.double())]
        for name, make in forward.items():
            y = make()
            found = [y.detach(), *torch.autograd.grad(y, inputs, grad)]
            both = {"float64": lambda: expected, name: lambda found=found: found}
            agree(both, "float64", TOLERANCE[name])()

    # Moments; read and write; sums of the gradient over two maps; read two and write one. A residual is read once
    # forward, and its gradient is written.
    passes = 8 + 2 * residual
    measure(
        f"batch-norm and ReLU, {threads} threads: {network}, [{BATCH}, {channels}, {side}, {side}]"
        + ", residual" * residual,
        subjects,
        baseline="torch",
        check=check,
        work=Work(bytes_moved=passes * x.nbytes),
    )
