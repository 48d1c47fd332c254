"""Operators of the CPU measured in turn with what they replace, alone and in a whole training step."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from fastcifar.config import OptimizerConfig, RuntimeConfig
from fastcifar.model.layers import Stem
from fastcifar.model.registry import build_model
from fastcifar.runtime import choose_runtime
from fastcifar.training.averaging import WeightAverage
from fastcifar.training.optimizer import build_optimizer
from fastcifar.training.step import TrainingStep
from fastcifar_kernels.backend import Backend

ROUNDS = 20


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


def threads_of(wanted: int | None, backend: Backend) -> Iterator[int]:
    """So many threads (None: all) while a benchmark runs; it is skipped where the operator is not there."""
    if backend.used == "none":
        pytest.skip(backend.reason)
    before = torch.get_num_threads()
    torch.set_num_threads(wanted or before)
    yield torch.get_num_threads()
    torch.set_num_threads(before)


def training_step(model_name: str, size: int, batch_size: int) -> Callable[[], Any]:
    """A step of a recipe's network on images that stay the same, its stem frozen as in a run."""
    torch.manual_seed(0)
    model = build_model(model_name).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    if isinstance(model.stem, Stem):
        model.stem.freeze()
    average = WeightAverage(model, 0.98)
    optimizer = build_optimizer(model, OptimizerConfig(learning_rate=0.01), "fused", average)
    step = TrainingStep(model, optimizer, average, choose_runtime(RuntimeConfig(device="cpu")), label_smoothing=0.1)
    images = torch.randn(batch_size, 3, size, size).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (batch_size,))
    return lambda: step(images, labels, 0.01)
