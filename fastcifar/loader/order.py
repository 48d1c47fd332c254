"""Which images make up which batch: an epoch's order, this rank's share, and the place reached in it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from fastcifar.augment.philox import ORDER_STREAM, key_from_seed, philox4x32
from fastcifar.augment.policy import IMAGE_SIZE
from fastcifar.errors import UsageError
from fastcifar.loader.contract import LoaderState

SMALLEST_IMAGE, LARGEST_IMAGE = 8, 64
"""Sides in pixels that a batch may be sampled at."""


@dataclass(frozen=True)
class BatchRequest:
    """All that a batch depends on besides the loader's settings; small enough to be sent to a worker."""

    epoch: int
    image_size: int
    """Side of the images in pixels."""
    indices: torch.Tensor | np.ndarray
    """int64 [B]: which images of the data set."""


def epoch_order(count: int, seed: int, epoch: int, device: torch.device) -> torch.Tensor:
    """A permutation of 0 .. count - 1, int64 on `device`: sorted by 64 random bits of (seed, epoch, index).

    The same on every device and with every version of torch, which torch.randperm does not promise.
    """
    indices = torch.arange(count, device=device)
    high, low, _, _ = philox4x32((indices, epoch, 0, ORDER_STREAM), key_from_seed(seed))
    return torch.argsort(torch.as_tensor(high << 32 | low), stable=True)


class EpochLoader:
    """Epochs, shares and positions of the loaders that choose images by index; each adds its `__iter__`.

    Args:
        count: images in the data set.
        batch_size: images a batch on this rank.
        seed: of the order, 0 .. 2**64 - 1.
        shuffle: a new order each epoch, else the stored one.
        drop_last: only whole batches, equally many on every rank (training).
        rank, world_size: this process takes every world_size-th image of the order, from the rank-th.

    Raises:
        UsageError: `batch_size` below 1 or, with `drop_last`, above a rank's share of the images.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        *,
        seed: int,
        shuffle: bool,
        drop_last: bool,
        rank: int,
        world_size: int,
    ) -> None:
        share = count // world_size
        if batch_size < 1:
            raise UsageError(f"training.batch_size = {batch_size} is not a batch", "use 1 or more")
        if drop_last and batch_size > share:
            raise UsageError(
                f"training.batch_size = {batch_size} is larger than the set: {share} images a process",
                f"use 1 to {share}",
            )
        self.batch_size = batch_size
        self._count, self._seed = count, seed
        self._shuffle, self._drop_last = shuffle, drop_last
        self._rank, self._world_size = rank, world_size
        self._epoch, self._image_size = 0, IMAGE_SIZE
        self._batch = 0  # batches yielded so far
        self._resume_at = 0  # the batch that the next iteration starts with

    def __len__(self) -> int:
        if self._drop_last:
            return self._count // self._world_size // self.batch_size
        return math.ceil(len(range(self._rank, self._count, self._world_size)) / self.batch_size)

    def set_epoch(self, epoch: int, image_size: int = IMAGE_SIZE) -> None:
        """See `Loader`.

        Raises:
            UsageError: `image_size` outside 8 .. 64.
        """
        if not SMALLEST_IMAGE <= image_size <= LARGEST_IMAGE:
            allowed = f"use {SMALLEST_IMAGE} to {LARGEST_IMAGE} pixels"
            raise UsageError(f"images of {image_size} x {image_size} pixels cannot be made", allowed)
        if epoch != self._epoch:
            self._resume_at = 0
        self._epoch, self._image_size, self._batch = epoch, image_size, self._resume_at

    def state_dict(self) -> LoaderState:
        """See `Loader`."""
        return {"epoch": self._epoch, "batch": self._batch, "image_size": self._image_size}

    def load_state_dict(self, state: LoaderState) -> None:
        """See `Loader`.

        Raises:
            UsageError: that epoch had more batches than an epoch has here.
        """
        if state["batch"] > len(self):
            raise UsageError(
                f"the checkpoint stands at batch {state['batch']} of an epoch of {len(self)} batches",
                "resume with the training.batch_size, data set and number of processes it was made with",
            )
        self._epoch, self._resume_at = state["epoch"], state["batch"]
        self.set_epoch(state["epoch"], state["image_size"])

    def _requests(self, device: torch.device) -> Iterator[BatchRequest]:
        """What this iteration yields, indices on `device`; the next iteration starts at batch 0 again."""
        share, epoch, image_size = self._begin(device), self._epoch, self._image_size
        for batch in range(self._batch, len(self)):
            first = batch * self.batch_size
            yield BatchRequest(epoch, image_size, share[first : first + self.batch_size])

    def _begin(self, device: torch.device) -> torch.Tensor:
        """Start an iteration where the last one is to go on: this rank's share of the epoch's order, int64."""
        self._batch, self._resume_at = self._resume_at, 0
        if self._shuffle:
            order = epoch_order(self._count, self._seed, self._epoch, device)
        else:
            order = torch.arange(self._count, device=device)
        return order[self._rank :: self._world_size]
