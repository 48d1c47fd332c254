"""What the tests of `sgd_ema` share: the law in float64, and networks of awkward tensors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from fastcifar_kernels.sgd_ema import BACKENDS

SIZES = [
    (1,),
    (3,),
    (7, 5),
    (1023,),
    (1024,),
    (1025,),
    (0,),
    (4, 3, 3, 3),
    (64, 48, 3, 3),
    (96, 1, 3, 3),
    (96, 96, 1, 1),
]
"""Whole chunks of 1024 elements and what does not fill one, sizes that no vector width divides, and none at all."""


def need(device: str) -> torch.device:
    """The device, or a skip with the reason why nothing serves it."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    if BACKENDS[device].used == "none":
        pytest.skip(BACKENDS[device].reason)
    return torch.device(device)


@dataclass
class Settings:
    """Of one group."""

    learning_rate: float
    momentum: float
    weight_decay: float


def law(state: Sequence[Tensor], settings: Settings, share: float, nesterov: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Parameter, momentum and average after a step; `state` is float64 parameter, gradient, momentum and average."""
    parameter, gradient, momentum, average = state
    slope = gradient + settings.weight_decay * parameter
    momentum = settings.momentum * momentum + slope
    parameter = parameter - settings.learning_rate * (slope + settings.momentum * momentum if nesterov else momentum)
    return parameter, momentum, (1 - share) * average + share * parameter


def parameters_of(device: torch.device, seed: int = 0) -> list[nn.Parameter]:
    """A parameter of every size, the 4-dimensional ones in channels_last."""
    generator = torch.Generator().manual_seed(seed)
    tensors = [torch.randn(size, generator=generator) for size in SIZES]
    formats = [torch.channels_last if tensor.dim() == 4 else torch.contiguous_format for tensor in tensors]
    moved = [tensor.to(device, memory_format=form) for tensor, form in zip(tensors, formats, strict=True)]
    return [nn.Parameter(tensor) for tensor in moved]


def set_gradients(parameters: list[nn.Parameter], step: int, make: Callable[[Tensor], Tensor] = lambda g: g) -> None:
    """The same random gradients for the same step, whatever device they go to."""
    generator = torch.Generator().manual_seed(1000 + step)
    for parameter in parameters:
        values = torch.randn(parameter.shape, generator=generator).to(parameter.device)
        parameter.grad = make(torch.empty_like(parameter).copy_(values).detach())
