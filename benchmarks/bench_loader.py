"""Augmented training batches from memory: the resident loader, the same work in worker processes, and in DALI."""

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch

from fastcifar.augment.policy import AugmentPolicy
from fastcifar.augment.requirements import require_dali
from fastcifar.dataset.shapes10 import make_shapes10
from fastcifar.errors import DeviceError
from fastcifar.loader.contract import Loader
from fastcifar.loader.resident import ResidentLoader
from fastcifar.loader.workers import WorkersLoader

BATCH = 512

shapes10 = functools.cache(make_shapes10)


def dali_loader(*arguments: Any, **settings: Any) -> Loader:
    try:
        require_dali()
    except DeviceError as missing:
        pytest.skip(str(missing))
    from fastcifar.loader.dali import DaliLoader

    return DaliLoader(*arguments, **settings, threads=torch.get_num_threads())


def workers_loader(*arguments: Any, **settings: Any) -> Loader:
    return WorkersLoader(*arguments, **settings, workers=2)


LOADERS: dict[str, Callable[..., Loader]] = {
    "resident": ResidentLoader,
    "workers, 2 processes": workers_loader,
    "dali, from arrays": dali_loader,
}


@pytest.mark.parametrize("subject", LOADERS)
@pytest.mark.parametrize("size", [16, 32])
def bench_epoch(benchmark: Any, size: int, subject: str) -> None:
    data = shapes10().train
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
    loader = LOADERS[subject](data.images, data.labels, BATCH, **settings)
    benchmark.group = f"loader: full policy, {size} pixels, batch {BATCH}"
    benchmark.extra_info["images"] = len(loader) * BATCH
    epochs = iter(range(1000))

    def epoch() -> None:
        loader.set_epoch(next(epochs), size)
        for _ in loader:
            pass

    benchmark.pedantic(epoch, rounds=3, warmup_rounds=1)
