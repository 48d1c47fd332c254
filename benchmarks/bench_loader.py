"""Augmented training batches from memory: the resident loader, and the same work in worker processes."""

from typing import Any

import pytest
import torch

from fastcifar.augment.policy import AugmentPolicy
from fastcifar.dataset.shapes10 import make_shapes10
from fastcifar.loader.resident import ResidentLoader
from fastcifar.loader.workers import WorkersLoader

BATCH = 512


@pytest.mark.parametrize("subject", ["resident", "workers, 2 processes"])
@pytest.mark.parametrize("size", [16, 32])
def bench_epoch(benchmark: Any, size: int, subject: str) -> None:
    data = make_shapes10().train
    settings: dict[str, Any] = {
        "policy": AugmentPolicy(),
        "mean": (0.5, 0.5, 0.5),
        "std": (0.25, 0.25, 0.25),
        "seed": 0,
        "device": torch.device("cpu"),
        "dtype": torch.float32,
        "shuffle": True,
        "drop_last": True,
    }
    if subject == "resident":
        loader = ResidentLoader(data.images, data.labels, BATCH, **settings)
    else:
        loader = WorkersLoader(data.images, data.labels, BATCH, **settings, workers=2)
    benchmark.group = f"loader: full policy, {size} pixels, batch {BATCH}"
    benchmark.extra_info["images"] = len(loader) * BATCH
    epochs = iter(range(1000))

    def epoch() -> None:
        loader.set_epoch(next(epochs), size)
        for _ in loader:
            pass

    benchmark.pedantic(epoch, rounds=5, warmup_rounds=1)
