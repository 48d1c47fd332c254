"""The whole way from stored images to an augmented batch, with fastcifar's loaders and with what one would use instead.

5,120 images, of CIFAR-10 where FASTCIFAR_DATA_DIR names it, else of shapes10; the full policy at 32 pixels; batches of
512 in float32 on the device.
"""

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from compressed import write_compressed
from loaders import BATCH, Epoch, beside_each_other, ours, ours_through_dali
from measure import Measure
from needs import need_gpu
from peers.resident_torch import ResidentTorch
from peers.torchvision_dataloader import torchvision_dataloader
from peers.transformed_batches import TransformedBatches, kornia_transform, torchvision_transform

from fastcifar.augment.policy import AugmentPolicy
from fastcifar.augment.requirements import require_albumentations
from fastcifar.dataset.folder import read_class_folders
from fastcifar.dataset.image_set import Dataset, ImageSet, stratified_indices
from fastcifar.dataset.load import load_dataset
from fastcifar.dataset.statistics import channel_statistics
from fastcifar.dataset.webdataset import read_webdataset
from fastcifar.loader.contract import Batch
from fastcifar.loader.resident import ResidentLoader
from fastcifar.loader.workers import WorkersLoader
from fastcifar_kernels.augment import BACKENDS
from fastcifar_kernels.backend import Backend

IMAGES, SHORT_IMAGES, TEST_IMAGES = 5_120, 2_048, 100
POLICY = AugmentPolicy(affine=0.5, rotate_degrees=45, dropout=0.5, dropout_size=16, gray=0.2)
"""The course's own strength: albumentations' default rotation, holes and gray often enough to count."""
BASELINE = "albumentations, 2 workers"
RESIDENT, PLAIN_TORCH = "fastcifar resident", "fastcifar resident, plain torch"
WORKERS, DALI = "fastcifar workers, 2 workers", "fastcifar dali, arrays"


def bench_augment(measure: Measure, tmp_path: Path, short: bool) -> None:
    beside_albumentations(measure, tmp_path, short, "cpu")


@pytest.mark.gpu
def bench_augment_on_gpu(measure: Measure, tmp_path: Path, short: bool) -> None:
    need_gpu()
    beside_albumentations(measure, tmp_path, short, "cuda")


def beside_albumentations(measure: Measure, folder: Path, short: bool, device: str) -> None:
    dataset = some_images(SHORT_IMAGES if short else IMAGES)
    beside_each_other(
        measure,
        f"augmentation: {device}, {dataset.name}, 32 pixels, batch {BATCH}",
        entries(dataset, folder, device, short),
        baseline=BASELINE,
        alike=(RESIDENT, PLAIN_TORCH, WORKERS, DALI),
        images=len(dataset.train) // BATCH * BATCH,
        size=32,
        device=device,
    )


def some_images(count: int) -> Dataset:
    """Training images, and just enough of the test set for class folders."""
    whole = load_dataset("cifar10" if os.environ.get("FASTCIFAR_DATA_DIR") else "shapes10")
    train, test = (
        images.take(stratified_indices(images.labels, min(wanted, len(images))))
        for images, wanted in ((whole.train, count), (whole.test, TEST_IMAGES))
    )
    return dataclasses.replace(whole, train=train, test=test)


def entries(dataset: Dataset, folder: Path, device: str, short: bool) -> Iterator[tuple[str, Callable[[], Epoch]]]:
    """Names and how to build each; workers fork before DALI starts."""
    train, statistics = dataset.train, channel_statistics(dataset.train.images)
    common: dict[str, Any] = {"policy": POLICY, "mean": statistics.mean, "std": statistics.std}
    place = {"device": device}
    yield BASELINE, partial(albumentations, train, common)
    if not short:
        yield "torchvision v2, 2 workers", partial(again, torchvision_dataloader, train, **common, workers=2)
    yield "torchvision v2 on batches", partial(transformed, torchvision_transform, train, common, device)
    yield "kornia on batches", partial(transformed, kornia_transform, train, common, device)
    yield "resident in the manner of airbench", partial(again, ResidentTorch, train, **common, **place)
    yield WORKERS, partial(ours, WorkersLoader, train, common, **place, workers=2)
    yield RESIDENT, partial(ours, ResidentLoader, train, common, **place)
    yield PLAIN_TORCH, partial(resident_in_plain_torch, train, common, device)
    yield DALI, partial(ours_through_dali, train, common, **place)
    if short:
        return
    constant = common | {"policy": dataclasses.replace(POLICY, border="constant")}
    yield f"{DALI}, constant border", partial(ours_through_dali, train, constant, **place)
    yield f"{DALI}, DALI's draws", partial(ours_through_dali, train, common, **place, own_draws=True)
    paths = write_compressed(dataset, folder)
    for name, path in paths.items():
        read = read_webdataset if name == "shards" else read_class_folders
        yield f"fastcifar dali, {name}", partial(ours_through_dali, read(path).train, common, **place)
    yield "plain DALI, readers.file, png", partial(dali_readers, paths["png"] / "train", common)


def again(kind: Callable[..., Iterable[Batch]], train: ImageSet, **settings: Any) -> Epoch:
    """A loader each of whose iterations is an epoch."""
    loader = kind(train.images, train.labels, BATCH, **settings)
    return lambda: loader


def albumentations(train: ImageSet, common: dict[str, Any]) -> Epoch:
    require_albumentations()
    from peers.albumentations_dataloader import albumentations_dataloader

    return again(albumentations_dataloader, train, **common, workers=2)


def transformed(make: Callable[..., Any], train: ImageSet, common: dict[str, Any], device: str) -> Epoch:
    return again(TransformedBatches, train, transform=make(**common), device=device)


def resident_in_plain_torch(train: ImageSet, common: dict[str, Any], device: str) -> Epoch:
    """What serves where no kernel was built."""
    absent = {device: Backend("augment", device, "none", "measured without")}
    epoch = ours(ResidentLoader, train, common, device=device)

    def batches() -> Iterator[Batch]:
        with patch.dict(BACKENDS, absent):
            yield from epoch()

    return batches


def dali_readers(folder: Path, common: dict[str, Any]) -> Epoch:
    from peers.dali_readers import DaliReaders

    loader = DaliReaders(folder, BATCH, **common, threads=torch.get_num_threads())
    return lambda: loader
