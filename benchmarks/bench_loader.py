"""What a data set in memory or DALI gains over worker processes: the same batches from fastcifar's own loaders.

At 16 pixels, as the speed recipe begins; `bench_augment.py` has 32, beside everybody else's loaders.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from loaders import BATCH, Epoch, beside_each_other, ours, ours_through_dali
from measure import Measure
from needs import need_gpu

from fastcifar.augment.policy import AugmentPolicy
from fastcifar.dataset.image_set import ImageSet
from fastcifar.dataset.shapes10 import make_shapes10
from fastcifar.loader.resident import ResidentLoader
from fastcifar.loader.workers import WorkersLoader

SIZE = 16
SETTINGS: dict[str, Any] = {"policy": AugmentPolicy(), "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
NAMES = WORKERS, RESIDENT, DALI = "workers, 2 processes", "resident", "dali, from arrays"


def bench_epoch(measure: Measure, short: bool) -> None:
    beside_workers(measure, short, "cpu")


@pytest.mark.gpu
def bench_epoch_on_gpu(measure: Measure, short: bool) -> None:
    need_gpu()
    beside_workers(measure, short, "cuda")


def beside_workers(measure: Measure, short: bool, device: str) -> None:
    train = make_shapes10(2_050 if short else 10_000, 10).train
    beside_each_other(
        measure,
        f"loader: {device}, full policy, {SIZE} pixels, batch {BATCH}",
        entries(train, {"device": device, "size": SIZE}),
        baseline=WORKERS,
        alike=NAMES,
        images=len(train) // BATCH * BATCH,
        size=SIZE,
        device=device,
    )


def entries(train: ImageSet, place: dict[str, Any]) -> Iterator[tuple[str, Callable[[], Epoch]]]:
    """Names and how to build each; workers fork before DALI starts."""
    yield WORKERS, partial(ours, WorkersLoader, train, SETTINGS, **place, workers=2)
    yield RESIDENT, partial(ours, ResidentLoader, train, SETTINGS, **place)
    yield DALI, partial(ours_through_dali, train, SETTINGS, **place)
