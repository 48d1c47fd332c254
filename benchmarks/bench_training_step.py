"""The whole training step on a CPU: fp32, bf16 autocast and torch.compile, on both networks at two image sizes.

These figures stand behind the choices in `fastcifar/runtime.py`.
"""

import dataclasses
from typing import Any

import pytest
import torch

from fastcifar.config import OptimizerConfig, RuntimeConfig
from fastcifar.model.registry import build_model
from fastcifar.runtime import choose_runtime, cpu_has_bf16
from fastcifar.training.averaging import WeightAverage
from fastcifar.training.optimizer import build_optimizer
from fastcifar.training.step import TrainingStep

BATCH = 256


@pytest.mark.parametrize("subject", ["fp32", "bf16 autocast", "fp32 compiled"])
@pytest.mark.parametrize("size", [16, 32])
@pytest.mark.parametrize("model_name", ["c1c2c3c40-speed", "c1c2c3c40-accuracy"])
def bench_training_step(benchmark: Any, model_name: str, size: int, subject: str) -> None:
    if subject == "bf16 autocast" and not cpu_has_bf16():
        pytest.skip("this CPU has no bf16 arithmetic")
    benchmark.group = f"step: {model_name}, {size} pixels, batch {BATCH}"
    benchmark.extra_info["images"] = BATCH
    torch.manual_seed(0)
    dtype = torch.bfloat16 if subject == "bf16 autocast" else None
    runtime = dataclasses.replace(choose_runtime(RuntimeConfig(device="cpu")), autocast_dtype=dtype)
    model = build_model(model_name).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    average = WeightAverage(model, 0.98)
    if subject == "fp32 compiled":
        model.compile(dynamic=False)
    optimizer = build_optimizer(model, OptimizerConfig(learning_rate=0.01))
    step = TrainingStep(model, optimizer, average, runtime, label_smoothing=0.1)
    images = torch.randn(BATCH, 3, size, size, dtype=dtype or torch.float32)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (BATCH,))
    benchmark.pedantic(step, args=(images, labels, 0.01), rounds=7, warmup_rounds=3)
