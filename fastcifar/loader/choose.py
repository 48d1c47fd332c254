"""Which loader serves a run, and the pair of loaders it needs."""

from dataclasses import dataclass
from typing import Any

import torch

from fastcifar.config import Config, LoaderConfig
from fastcifar.dataset.image_set import Dataset, ImageSet
from fastcifar.dataset.statistics import ChannelStatistics
from fastcifar.loader.contract import Loader
from fastcifar.loader.resident import ResidentLoader
from fastcifar.loader.workers import WorkersLoader
from fastcifar.runtime import Runtime

EVALUATION_BATCH = 1000  # divides CIFAR-10's test set, so that no ragged shape is ever compiled


@dataclass(frozen=True)
class LoaderChoice:
    """`kind` is "resident" or "workers"; `reason` says why in a clause."""

    kind: str
    reason: str


def choose_loader(config: LoaderConfig, dataset: Dataset) -> LoaderChoice:
    """Resolve `loader.kind`; "auto" keeps the whole data set on the device."""
    if config.kind != "auto":
        return LoaderChoice(config.kind, "asked for")
    megabytes = (dataset.train.images.nbytes + dataset.test.images.nbytes) / 1e6
    return LoaderChoice("resident", f"the whole data set takes {megabytes:.0f} MB")


def build_loaders(
    kind: str, config: Config, runtime: Runtime, dataset: Dataset, statistics: ChannelStatistics
) -> tuple[Loader, Loader]:
    """The training loader (shuffled, augmented, whole batches) and the evaluation loader (every image once)."""
    shared: dict[str, Any] = {
        "mean": statistics.mean,
        "std": statistics.std,
        "device": runtime.device,
        "dtype": runtime.autocast_dtype or torch.float32,
        "seed": config.training.seed,
    }
    training = {
        "batch_size": config.training.batch_size,
        "policy": config.augment,
        "shuffle": True,
        "drop_last": True,
    }
    if kind == "workers":
        train: Loader = WorkersLoader(
            dataset.train.images, dataset.train.labels, **training, **shared, workers=config.loader.workers
        )
    else:
        train = ResidentLoader(dataset.train.images, dataset.train.labels, **training, **shared)
    return train, evaluation_loader(dataset.test, runtime, statistics)


def evaluation_loader(images: ImageSet, runtime: Runtime, statistics: ChannelStatistics) -> Loader:
    """Every image once, in order, as it is; resident, since there is no augmentation to spread over processes."""
    return ResidentLoader(
        images.images,
        images.labels,
        batch_size=min(EVALUATION_BATCH, len(images)),
        policy=None,
        mean=statistics.mean,
        std=statistics.std,
        seed=0,
        device=runtime.device,
        dtype=runtime.autocast_dtype or torch.float32,
        shuffle=False,
        drop_last=False,
    )
