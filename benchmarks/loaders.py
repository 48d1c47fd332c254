"""Loaders as subjects: a call is an epoch of one, whose batches are looked at before any is timed."""

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import torch
from measure import Measure, agree
from record import Work

from fastcifar.dataset.image_set import ImageSet
from fastcifar.errors import DeviceError
from fastcifar.loader.contract import Batch, Loader

BATCH = 512
STORED_BYTES = 3 * 32 * 32
PAUSE_S = 0.2
"""Between two epochs, for what the loader before still reads ahead."""
ROUNDING = 0.03
"""Of the batch's norm: DALI rounds to whole grey levels after each transform, by one level at most."""

Epoch = Callable[[], Iterable[Batch]]
"""Starts an epoch: a batch is float32 [B, 3, size, size] and int64 [B]."""


def beside_each_other(
    measure: Measure,
    group: str,
    builders: Iterable[tuple[str, Callable[[], Epoch]]],
    *,
    baseline: str,
    alike: Iterable[str],
    images: int,
    size: int,
    device: str,
    axis: str = "",
) -> None:
    """Measure epochs in turn.

    Args:
        builders: names and how to build each; one that lacks a package (DeviceError) is left out. Each runs through an
            epoch before the next is built, so that its workers are there before others start threads.
        alike: loaders whose first epochs must be the same, but for the rounding.
        images: of an epoch, whole batches.
    """
    epochs: dict[str, Epoch] = {}
    first: dict[str, torch.Tensor] = {}
    left_out = {}
    for name, build in builders:
        try:
            epochs[name] = build()
        except DeviceError as error:
            left_out[name] = str(error)
            continue
        first[name] = _looked_through(name, epochs[name], images, size, device)
    results = {name: lambda name=name: first[name] for name in alike if name in first}
    measure(
        group,
        {name: lambda epoch=epoch: _run(epoch, device) for name, epoch in epochs.items()},
        baseline=baseline,
        check=agree(results, next(iter(results)), ROUNDING),
        work=Work("images/s", images, bytes_moved=images * (STORED_BYTES + 4 * 3 * size**2)),
        axis=axis,
        device=device,
        pause_s=PAUSE_S,
        left_out=left_out,
    )


def ours(
    kind: Callable[..., Loader],
    train: ImageSet,
    settings: dict[str, Any],
    *,
    device: str,
    size: int = 32,
    **own: Any,
) -> Epoch:
    """One of fastcifar's loaders over its next epoch, seed 0, shuffled; settings: policy, mean and std."""
    own |= {"seed": 0, "device": device, "dtype": torch.float32, "shuffle": True, "drop_last": True}
    loader = kind(train.images, train.labels, BATCH, **settings, **own)
    numbers = itertools.count()

    def epoch() -> Loader:
        loader.set_epoch(next(numbers), size)
        return loader

    return epoch


def ours_through_dali(train: ImageSet, settings: dict[str, Any], *, device: str, size: int = 32, **own: Any) -> Epoch:
    """As `ours`.

    Raises:
        DeviceError: DALI is not installed.
    """
    from fastcifar.loader.dali import DaliLoader

    own |= {"encoded": train.encoded, "threads": torch.get_num_threads()}
    return ours(DaliLoader, train, settings, device=device, size=size, **own)


def _looked_through(name: str, epoch: Epoch, images: int, size: int, device: str) -> torch.Tensor:
    """The first batch's images, after a whole epoch whose batches are what they should be."""
    first, count = torch.empty(0), 0
    for batch, labels in epoch():
        assert batch.shape == (len(labels), 3, size, size), f"{name}: {tuple(batch.shape)}"
        assert (batch.dtype, labels.dtype) == (torch.float32, torch.int64), f"{name}: {batch.dtype}, {labels.dtype}"
        assert batch.isfinite().all(), f"{name}: not finite"
        first = first if count else batch.to(device, copy=True)
        count += len(labels)
    assert count == images, f"{name}: {count} images, not {images}"
    return first


def _run(epoch: Epoch, device: str) -> None:
    for images, labels in epoch():
        images.to(device, non_blocking=True)
        labels.to(device, non_blocking=True)
