"""Loader: what training and evaluation ask of any loader."""

from collections.abc import Iterator
from typing import Protocol, TypedDict

import torch

Batch = tuple[torch.Tensor, torch.Tensor]
"""Images [B, 3, size, size], channels_last, in the step's dtype and on its device; labels int64 [B]."""


class LoaderState(TypedDict):
    """Where a loader stands; with the same settings it is all that a resume needs."""

    epoch: int
    batch: int
    """Batches of the epoch already yielded."""
    image_size: int


class Loader(Protocol):
    """Yields the batches of one epoch on this rank.

    The order of a shuffled epoch depends on (seed, epoch) alone and an image's augmentation on (seed,
    epoch, index) alone: neither knows batch size, rank, number of workers, device or resume point. Rank r
    takes every world_size-th image of the order, from the r-th. Without `drop_last` all ranks together
    yield every image exactly once, and the last batch may be ragged; with it (training) every rank yields
    equally many whole batches.
    """

    batch_size: int
    """Images a batch on this rank."""

    def set_epoch(self, epoch: int, image_size: int = 32) -> None:
        """Chooses the epoch and the images' side in pixels for the next iteration.

        A position that `load_state_dict` set in this very epoch stays, so a training loop need not know
        that it was resumed.
        """
        ...

    def __len__(self) -> int:
        """Batches in a whole epoch on this rank."""
        ...

    def __iter__(self) -> Iterator[Batch]:
        """From the start of the epoch, or once from the position that `load_state_dict` set."""
        ...

    def state_dict(self) -> LoaderState:
        """The position after the batch yielded last."""
        ...

    def load_state_dict(self, state: LoaderState) -> None:
        """The next iteration yields the batches that remained of that epoch: none, if it had ended."""
        ...
