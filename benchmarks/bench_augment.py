"""The whole way from stored images to an augmented batch, with fastcifar's loaders and with what one would use instead.

10,000 images, of CIFAR-10 where FASTCIFAR_DATA_DIR names it, else of shapes10; the full policy at 32 pixels; batches of
512 in float32. All entries share one test, which measures them in turn.
"""

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from compressed import write_compressed
from side_by_side import Epoch, SideBySide

from fastcifar.augment.policy import AugmentPolicy
from fastcifar.dataset.folder import read_class_folders
from fastcifar.dataset.image_set import Dataset, ImageSet, stratified_indices
from fastcifar.dataset.load import load_dataset
from fastcifar.dataset.statistics import channel_statistics
from fastcifar.dataset.webdataset import read_webdataset
from fastcifar.loader.contract import Loader
from fastcifar.loader.resident import ResidentLoader
from fastcifar.loader.workers import WorkersLoader

BATCH, IMAGES, ROUNDS = 512, 10_000, 5
POLICY = AugmentPolicy(affine=0.5, rotate_degrees=45, dropout=0.5, dropout_size=16, gray=0.2)
"""The course's own strength: albumentations' default rotation, holes and gray often enough to count."""


def bench_augment(benchmark: Any, tmp_path: Path) -> None:
    dataset = ten_thousand_images()
    comparison = SideBySide()
    for name, build in entries(dataset, tmp_path):
        comparison.add(name, build)
    benchmark.group = f"augmentation: {dataset.name}, 32 pixels, batch {BATCH}"
    benchmark.extra_info["side_by_side"] = comparison.record()
    benchmark.pedantic(comparison.measure_round, rounds=ROUNDS)


def ten_thousand_images() -> Dataset:
    """Training images, and just enough of the test set for class folders."""
    whole = load_dataset("cifar10" if os.environ.get("FASTCIFAR_DATA_DIR") else "shapes10")
    train, test = (
        images.take(stratified_indices(images.labels, min(count, len(images))))
        for images, count in ((whole.train, IMAGES), (whole.test, 10 * len(whole.classes)))
    )
    return dataclasses.replace(whole, train=train, test=test)


def entries(dataset: Dataset, folder: Path) -> Iterator[tuple[str, Callable[[], Epoch]]]:
    """Names and how to build each, the one that the others are compared with first; workers fork before DALI starts."""
    train, statistics = dataset.train, channel_statistics(dataset.train.images)
    common: dict[str, Any] = {"policy": POLICY, "mean": statistics.mean, "std": statistics.std}
    yield "albumentations, 2 workers", partial(albumentations, train, common, workers=2)
    yield "albumentations, no workers", partial(albumentations, train, common, workers=0)
    yield "torchvision v2, 2 workers", partial(torchvision, train, common, workers=2)
    yield "fastcifar workers, 2 workers", partial(ours, WorkersLoader, train, common, workers=2)
    yield "fastcifar resident", partial(ours, ResidentLoader, train, common)
    constant = common | {"policy": dataclasses.replace(POLICY, border="constant")}
    yield "fastcifar dali, arrays", partial(dali, train, common)
    yield "fastcifar dali, arrays, constant border", partial(dali, train, constant)
    yield "fastcifar dali, arrays, DALI's draws", partial(dali, train, common, own_draws=True)
    paths = write_compressed(dataset, folder)
    for name, path in paths.items():
        read = read_webdataset if name == "shards" else read_class_folders
        yield f"fastcifar dali, {name}", partial(dali, read(path).train, common)
    yield "plain DALI, readers.file, png", partial(dali_readers, paths["png"] / "train", common)


def albumentations(train: ImageSet, common: dict[str, Any], workers: int) -> Epoch:
    from peers.albumentations_dataloader import albumentations_dataloader

    loader = albumentations_dataloader(train.images, train.labels, BATCH, **common, workers=workers)
    return lambda: loader


def torchvision(train: ImageSet, common: dict[str, Any], workers: int) -> Epoch:
    from peers.torchvision_dataloader import torchvision_dataloader

    loader = torchvision_dataloader(train.images, train.labels, BATCH, **common, workers=workers)
    return lambda: loader


def dali_readers(folder: Path, common: dict[str, Any]) -> Epoch:
    from peers.dali_readers import DaliReaders

    loader = DaliReaders(folder, BATCH, **common, threads=torch.get_num_threads())
    return lambda: loader


def dali(train: ImageSet, common: dict[str, Any], own_draws: bool = False) -> Epoch:
    from fastcifar.loader.dali import DaliLoader

    threads = torch.get_num_threads()
    return ours(DaliLoader, train, common, encoded=train.encoded, threads=threads, own_draws=own_draws)


def ours(kind: Callable[..., Loader], train: ImageSet, common: dict[str, Any], **settings: Any) -> Epoch:
    settings |= {"seed": 0, "device": "cpu", "dtype": torch.float32, "shuffle": True, "drop_last": True}
    loader = kind(train.images, train.labels, BATCH, **common, **settings)
    numbers = itertools.count()

    def epoch() -> Loader:
        loader.set_epoch(next(numbers))
        return loader

    return epoch
