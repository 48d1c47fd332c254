"""A step and weight average of the speed network: one launch beside torch.optim.SGD and an EMA."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from measure import Measure, agree
from needs import need_backend, need_gpu
from record import Work
from torch import Tensor

from fastcifar.gpu_timing import captured
from fastcifar.model.registry import build_model
from fastcifar_kernels.sgd_ema import BACKENDS
from fastcifar_kernels.sgd_ema.optimizer import SGDEMA

SHARE = 0.02
BYTES = 28
"""A parameter: itself, momentum and average read and written, the gradient read."""
CHECKED_STEPS = 3


class Rival:
    """A network of its own with gradients, its average, and a way to move both; all rivals begin alike."""

    def __init__(self, device: str) -> None:
        torch.manual_seed(0)
        self.model: Any = build_model("c1c2c3c40-speed").to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.model.stem.conv.weight.requires_grad_(False)
        average = copy.deepcopy(self.model).requires_grad_(False)
        self.parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        for parameter in self.parameters:
            parameter.grad = 1e-3 * torch.randn_like(parameter)
        self.pairs = list(
            zip(self.model.state_dict(keep_vars=True).values(), average.state_dict().values(), strict=True)
        )
        self.settings: dict[str, Any] = {"lr": 1e-3, "momentum": 0.9, "nesterov": True}
        self.groups = [
            {"params": [parameter for parameter in self.parameters if parameter.ndim > 1], "weight_decay": 5e-4},
            {"params": [parameter for parameter in self.parameters if parameter.ndim <= 1], "weight_decay": 0.0},
        ]
        self.step: Callable[[], Any]

    def floating(self) -> list[tuple[Tensor, Tensor]]:
        return [pair for pair in self.pairs if pair[0].is_floating_point()]

    def moved(self) -> list[Tensor]:
        """Parameters and averages after a few steps on the same gradients, which torch's foreach kernels write to."""
        gradients = [parameter.grad.clone() for parameter in self.parameters]
        for _ in range(CHECKED_STEPS):
            for parameter, gradient in zip(self.parameters, gradients, strict=True):
                parameter.grad.copy_(gradient)
            self.step()
        return [tensor for pair in self.floating() for tensor in pair]


def foreach_and_loop(device: str) -> Rival:
    rival = Rival(device)
    optimizer = torch.optim.SGD(rival.groups, **rival.settings, foreach=True)
    floating = rival.floating()

    @torch.no_grad()
    def step() -> None:
        optimizer.step()
        for tensor, average in floating:
            average.lerp_(tensor, SHARE)

    rival.step = step
    return rival


def fused_and_foreach(device: str) -> Rival:
    rival = Rival(device)
    optimizer = torch.optim.SGD(rival.groups, **rival.settings, fused=True)
    tensors, averages = (list(side) for side in zip(*rival.floating(), strict=True))

    @torch.no_grad()
    def step() -> None:
        optimizer.step()
        torch._foreach_lerp_(averages, tensors, SHARE)

    rival.step = step
    return rival


def one_launch(device: str) -> Rival:
    rival = Rival(device)
    rival.step = SGDEMA(rival.groups, **rival.settings, averages=rival.pairs, share=SHARE).step
    return rival


MAKERS = {"fused, foreach": fused_and_foreach, "foreach, loop": foreach_and_loop, "one launch": one_launch}


def bench_step(measure: Measure, threads: int) -> None:
    beside_torchs(measure, f"cpu, {threads} threads", "cpu")


@pytest.mark.gpu
def bench_step_on_gpu(measure: Measure) -> None:
    need_gpu()
    beside_torchs(measure, "cuda", "cuda")


def beside_torchs(measure: Measure, where: str, device: str) -> None:
    need_backend(BACKENDS[device])
    rivals = {name: make(device) for name, make in MAKERS.items()}
    check = agree({name: rival.moved for name, rival in rivals.items()}, "fused, foreach", 1e-5)
    subjects = {name: rival.step for name, rival in rivals.items()}
    if device == "cuda":
        subjects["one launch, captured"] = captured(one_launch(device).step, calls=1).replay
    parameters = sum(parameter.numel() for parameter in next(iter(rivals.values())).parameters)
    measure(
        f"sgd_ema: {where}",
        subjects,
        baseline="fused, foreach",
        check=check,
        work=Work(bytes_moved=BYTES * parameters),
        device=device,
    )
