"""What the tests of several operators ask."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode


def assert_near(found: Tensor, wanted: Tensor) -> None:
    """Within 3e-6 of the root mean square: a sum of many terms may come to nothing."""
    scale = wanted.square().mean().sqrt().item() if wanted.numel() else 0.0
    torch.testing.assert_close(found.double(), wanted, rtol=1e-6, atol=3e-6 * scale)


class Calls(TorchDispatchMode):
    """The names of the operators that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.name())
        return func(*args, **(kwargs or {}))


def is_served(operator: str, layer: nn.Module, x: Tensor) -> bool:
    """Whether the operator runs a layer forward and backward, rather than torch's convolution."""
    with Calls() as calls:
        layer(x).sum().backward()
    forward, backward = (f"fastcifar_kernels::{name}" in calls.names for name in (operator, f"{operator}_backward"))
    assert forward == backward != ("aten::convolution_backward" in calls.names)
    return forward


def gradients_of(block: nn.Module, x: Tensor) -> list[Tensor]:
    """A block's output, and its gradients by the input and by each parameter."""
    own = x.clone().requires_grad_()
    y = block(own)
    return [y, *torch.autograd.grad(y.square().sum(), [own, *block.parameters()])]
