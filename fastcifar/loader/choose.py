"""Which loader serves a run, and the pair of loaders it needs."""

from dataclasses import dataclass
from typing import Any

import torch

from fastcifar.augment.requirements import require_dali
from fastcifar.config import Config, LoaderConfig
from fastcifar.dataset.encoded import ImageFiles, ShardMembers
from fastcifar.dataset.image_set import Dataset, ImageSet
from fastcifar.dataset.statistics import ChannelStatistics
from fastcifar.loader.contract import Loader
from fastcifar.loader.resident import ResidentLoader
from fastcifar.loader.workers import WorkersLoader
from fastcifar.runtime import Runtime

EVALUATION_BATCH = 1000  # divides CIFAR-10's test set, so that no ragged shape is ever compiled


@dataclass(frozen=True)
class LoaderChoice:
    """`kind` is "resident", "dali" or "workers"; `reason` says why in a clause."""

    kind: str
    reason: str


def check_loader(config: LoaderConfig) -> None:
    """Refuse a loader that cannot be had, before any data are read.

    Raises:
        DeviceError: "dali" is asked for and NVIDIA DALI is not installed.
    """
    if config.kind == "dali":
        require_dali()


def choose_loader(config: LoaderConfig, dataset: Dataset, device: torch.device) -> LoaderChoice:
    """Resolve `loader.kind`; "auto" keeps the whole data set on the device, unless that lacks the memory."""
    if config.kind == "dali":
        return LoaderChoice("dali", f"asked for; {_what_dali_does(dataset.train, device)}")
    if config.kind != "auto":
        return LoaderChoice(config.kind, "asked for")
    megabytes = (dataset.train.images.nbytes + dataset.test.images.nbytes) / 1e6
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0] / 1e6
        if megabytes > free / 2:
            return LoaderChoice(
                "workers", f"the data set's {megabytes:.0f} MB would take over half of {free:.0f} MB free"
            )
    return LoaderChoice("resident", f"the whole data set takes {megabytes:.0f} MB, so nothing is read or decoded twice")


def _what_dali_does(images: ImageSet, device: torch.device) -> str:
    sources = {ImageFiles: "decodes image files", ShardMembers: "decodes shards"}
    work = sources.get(type(images.encoded), "reads the arrays")
    return f"{work} and augments on the {'GPU' if device.type == 'cuda' else 'CPU'}"


def build_loaders(
    kind: str, config: Config, runtime: Runtime, dataset: Dataset, statistics: ChannelStatistics
) -> tuple[Loader, Loader]:
    """The training loader and the evaluation loader (every image once)."""
    train = training_loader(kind, config, runtime, dataset.train, statistics)
    return train, evaluation_loader(dataset.test, runtime, statistics)


def training_loader(
    kind: str, config: Config, runtime: Runtime, train: ImageSet, statistics: ChannelStatistics
) -> Loader:
    """The images shuffled and augmented, in whole batches."""
    settings: dict[str, Any] = {
        "batch_size": config.training.batch_size,
        "policy": config.augment,
        "mean": statistics.mean,
        "std": statistics.std,
        "seed": config.training.seed,
        "device": runtime.device,
        "dtype": runtime.autocast_dtype or torch.float32,
        "shuffle": True,
        "drop_last": True,
    }
    if kind == "dali":
        from fastcifar.loader.dali import DaliLoader  # DALI is an extra

        return DaliLoader(
            train.images,
            train.labels,
            **settings,
            encoded=train.encoded,
            threads=torch.get_num_threads(),
            own_draws=config.loader.draws == "dali",
        )
    if kind == "workers":
        return WorkersLoader(train.images, train.labels, **settings, workers=config.loader.workers)
    return ResidentLoader(train.images, train.labels, **settings)


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
