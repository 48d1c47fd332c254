"""The depthwise backward pass beside oneDNN's, and what it makes of a whole training step; each in turn."""

import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest
import torch

from fastcifar.config import OptimizerConfig, RuntimeConfig
from fastcifar.model.registry import build_model
from fastcifar.runtime import choose_runtime
from fastcifar.training.averaging import WeightAverage
from fastcifar.training.optimizer import build_optimizer
from fastcifar.training.step import TrainingStep
from fastcifar_kernels.backend import Backend
from fastcifar_kernels.depthwise import BACKENDS

BATCH = 512
LAYERS = {
    "speed": [(96, 8, 2, 1), (96, 4, 2, 1), (96, 4, 1, 2), (96, 2, 1, 2)],
    "accuracy": [
        (32, 32, 1, 1),
        (32, 32, 2, 1),
        (64, 16, 1, 1),
        (64, 16, 2, 1),
        (128, 8, 1, 1),
        (128, 8, 2, 1),
        (128, 4, 1, 1),
        (128, 4, 1, 2),
        (128, 2, 1, 2),
    ],
}
"""Channels, side of the input in pixels, stride, dilation; images of 16 and of 32 pixels."""

ROUNDS = 20
TORCH = {"cpu": Backend("depthwise", "cpu", "none", "measured without")}


def in_turn(benchmark: Any, subjects: dict[str, Callable[[], Any]], repeats: int) -> None:
    """Round after round, `repeats` calls of each; the first subject is what the last is compared with."""
    best = dict.fromkeys(subjects, float("inf"))

    def rounds() -> None:
        for name, subject in subjects.items():
            started = time.perf_counter()
            for _ in range(repeats):
                subject()
            best[name] = min(best[name], (time.perf_counter() - started) / repeats * 1e6)

    benchmark.pedantic(rounds, rounds=ROUNDS, warmup_rounds=1)
    first, *_, last = best.values()
    benchmark.extra_info["microseconds"] = {name: round(value, 1) for name, value in best.items()}
    benchmark.extra_info["ratio"] = round(first / last, 2)
    print(benchmark.group, benchmark.extra_info)


@pytest.fixture(params=[1, None], ids=["1 thread", "all threads"])
def threads(request: pytest.FixtureRequest) -> Any:
    if BACKENDS["cpu"].used == "none":
        pytest.skip(BACKENDS["cpu"].reason)
    before = torch.get_num_threads()
    torch.set_num_threads(request.param or before)
    yield torch.get_num_threads()
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("network", "layer"),
    [(network, layer) for network, layers in LAYERS.items() for layer in layers],
    ids=[f"{network} {layer}" for network, layers in LAYERS.items() for layer in layers],
)
def bench_backward(benchmark: Any, threads: int, network: str, layer: tuple[int, int, int, int]) -> None:
    channels, side, stride, dilation = layer
    benchmark.group = f"depthwise backward, {threads} threads: {network}, [{BATCH}, {channels}, {side}, {side}], " + (
        f"stride {stride}, dilation {dilation}"
    )
    output = (side - 1) // stride + 1
    x, grad = (
        torch.randn(BATCH, channels, size, size).contiguous(memory_format=torch.channels_last)
        for size in (side, output)
    )
    weight = torch.randn(channels, 1, 3, 3)
    place = [stride] * 2, [dilation] * 2, [dilation] * 2, False, [0, 0], channels, [True, True, False]
    subjects = {
        "oneDNN": lambda: torch.ops.aten.convolution_backward(grad, x, weight, None, *place),
        "one pass": lambda: torch.ops.fastcifar_kernels.depthwise_backward(grad, x, weight, stride, dilation),
    }
    in_turn(benchmark, subjects, repeats=3)


@pytest.mark.parametrize("size", [16, 32])
@pytest.mark.parametrize("model_name", ["c1c2c3c40-speed", "c1c2c3c40-accuracy"])
def bench_step(benchmark: Any, threads: int, model_name: str, size: int) -> None:
    benchmark.group = f"step, {threads} threads: {model_name}, {size} pixels, batch {BATCH}"
    torch.manual_seed(0)
    model = build_model(model_name).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    average = WeightAverage(model, 0.98)
    optimizer = build_optimizer(model, OptimizerConfig(learning_rate=0.01))
    runtime = choose_runtime(RuntimeConfig(device="cpu"))
    step = TrainingStep(model, optimizer, average, runtime, label_smoothing=0.1)
    images = torch.randn(BATCH, 3, size, size).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (BATCH,))

    def without() -> None:
        with patch.dict(BACKENDS, TORCH):
            step(images, labels, 0.01)

    in_turn(benchmark, {"torch's backward": without, "one pass": lambda: step(images, labels, 0.01)}, repeats=1)
