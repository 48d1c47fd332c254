"""A step and weight average of the speed network: one launch beside torch.optim.SGD and an EMA, each in turn."""

import copy
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fastcifar.model.registry import build_model
from fastcifar_kernels.sgd_ema import BACKENDS
from fastcifar_kernels.sgd_ema.optimizer import SGDEMA

SHARE = 0.02
ROUNDS, STEPS = 40, 20


class Rival:
    """A network of its own with gradients, its average, and a way to move both."""

    def __init__(self, device: str) -> None:
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

    def floating(self) -> list[tuple[Tensor, Tensor]]:
        return [pair for pair in self.pairs if pair[0].is_floating_point()]


def foreach_and_loop(device: str) -> Callable[[], None]:
    rival = Rival(device)
    optimizer = torch.optim.SGD(rival.groups, **rival.settings, foreach=True)
    floating = rival.floating()

    @torch.no_grad()
    def step() -> None:
        optimizer.step()
        for tensor, average in floating:
            average.lerp_(tensor, SHARE)

    return step


def fused_and_foreach(device: str) -> Callable[[], None]:
    rival = Rival(device)
    optimizer = torch.optim.SGD(rival.groups, **rival.settings, fused=True)
    tensors, averages = (list(side) for side in zip(*rival.floating(), strict=True))

    @torch.no_grad()
    def step() -> None:
        optimizer.step()
        torch._foreach_lerp_(averages, tensors, SHARE)

    return step


def one_launch(device: str) -> Callable[[], None]:
    rival = Rival(device)
    return SGDEMA(rival.groups, **rival.settings, averages=rival.pairs, share=SHARE).step


def captured(device: str) -> Callable[[], None]:
    step, graph = one_launch(device), torch.cuda.CUDAGraph()
    step()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


MAKERS = {"foreach, loop": foreach_and_loop, "fused, foreach": fused_and_foreach, "one launch": one_launch}


@pytest.mark.parametrize("threads", [1, None], ids=["1 thread", "all threads"])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def bench_step(benchmark: Any, device: str, threads: int | None) -> None:
    if device == "cuda" and (threads or not torch.cuda.is_available()):
        pytest.skip("the threads are the CPU's" if threads else "no CUDA device")
    if BACKENDS[device].used == "none":
        pytest.skip(BACKENDS[device].reason)
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    makers = MAKERS | ({"one launch, captured": captured} if device == "cuda" else {})
    steps = {name: make(device) for name, make in makers.items()}
    best = dict.fromkeys(steps, float("inf"))

    def rounds() -> None:
        for name, step in steps.items():
            started = time.perf_counter()
            for _ in range(STEPS):
                step()
            if device == "cuda":
                torch.cuda.synchronize()
            best[name] = min(best[name], (time.perf_counter() - started) / STEPS * 1e6)

    try:
        benchmark.pedantic(rounds, rounds=ROUNDS, warmup_rounds=3)
    finally:
        torch.set_num_threads(before)
    benchmark.group = f"sgd_ema: {device}, {threads or 'all'} threads"
    benchmark.extra_info["microseconds"] = {name: round(value, 1) for name, value in best.items()}
    benchmark.extra_info["ratio"] = round(best["foreach, loop"] / best["one launch"], 2)
    print(benchmark.group, benchmark.extra_info)
