"""ResidentLoader: the data set lies on the device, and whole batches are augmented there."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset

from fastcifar.augment import fused
from fastcifar.augment.draws import sample_draws
from fastcifar.augment.policy import IDENTITY, IMAGE_SIZE, AugmentPolicy
from fastcifar.augment.reference import apply_draws
from fastcifar.loader.contract import Batch
from fastcifar.loader.order import BatchRequest, EpochLoader


@dataclass(frozen=True, eq=False)
class AugmentedArrays(Dataset[Batch]):
    """A data set on one device whose item is a whole augmented batch: `arrays[request]`.

    Raises:
        ValueError: arrays of other types or shapes than given here.
    """

    images: torch.Tensor
    """uint8 [N, 32, 32, 3]."""
    labels: torch.Tensor
    """int64 [N]."""
    policy: AugmentPolicy
    mean: tuple[float, float, float]
    """Of the data set, as a fraction of 1; so is `std`."""
    std: tuple[float, float, float]
    seed: int
    dtype: torch.dtype
    """Of the batch's images."""

    def __post_init__(self) -> None:
        check_arrays(self.images, self.labels)

    def __getitem__(self, index: BatchRequest) -> Batch:
        return self.batch(torch.as_tensor(index.indices), index.epoch, index.image_size)

    def batch(self, chosen: torch.Tensor, epoch: int | torch.Tensor, image_size: int) -> Batch:
        """The images `chosen` (int64 [B]); an epoch that lies on the device (one int64) is not read by the host."""
        labels = self.labels.index_select(0, chosen)
        wanted = (self.policy, self.mean, self.std, image_size, self.dtype)
        if fused.serves(self.images.device):
            return fused.apply(self.images, chosen, self.seed, epoch, *wanted), labels
        draws = None
        if not self.policy.is_identity:
            draws = sample_draws(self.policy, self.seed, epoch, chosen)
        return apply_draws(self.images.index_select(0, chosen), draws, *wanted), labels


class ResidentLoader(EpochLoader):
    """A `Loader` without workers and copies: CIFAR-10's training set takes 154 MB on the device.

    Nothing in an epoch waits for the device. Args besides those of `EpochLoader`:

        images: uint8 [N, 32, 32, 3].  labels: int64 [N].
        policy: None for no augmentation (evaluation).
        mean, std: of the data set, as fractions of 1.
        seed: of the order and the augmentation.
        device, dtype: of the batches.
    """

    def __init__(
        self,
        images: np.ndarray | torch.Tensor,
        labels: np.ndarray | torch.Tensor,
        batch_size: int,
        *,
        policy: AugmentPolicy | None,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        seed: int,
        device: torch.device | str,
        dtype: torch.dtype,
        shuffle: bool,
        drop_last: bool,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(
            len(images),
            batch_size,
            seed=seed,
            shuffle=shuffle,
            drop_last=drop_last,
            rank=rank,
            world_size=world_size,
        )
        self._device = torch.device(device)
        stored, targets = as_tensor(images).to(self._device), as_tensor(labels).to(self._device)
        self._arrays = AugmentedArrays(stored, targets, policy or IDENTITY, mean, std, seed, dtype)

    def __iter__(self) -> Iterator[Batch]:
        """See `Loader`."""
        for request in self._requests(self._device):
            self._batch += 1
            yield self._arrays[request]

    def begin(self) -> torch.Tensor:
        """Start an iteration without yielding: int64 [len(self), batch_size], the images of every batch of the epoch.

        For a step that makes its own batches, from `state_dict()["batch"]` on, with `make_batch`; it calls `made_batch`
        after each. Only with `drop_last`.
        """
        share = self._begin(self._device)
        return share[: len(self) * self.batch_size].reshape(len(self), self.batch_size)

    def make_batch(self, indices: torch.Tensor, epoch: torch.Tensor, image_size: int) -> Batch:
        """A batch of these images, augmented for an epoch that the device alone knows."""
        return self._arrays.batch(indices, epoch, image_size)

    def made_batch(self) -> None:
        """Count a batch as yielded."""
        self._batch += 1


def check_arrays(images: torch.Tensor, labels: torch.Tensor) -> None:
    """Raise ValueError unless they are uint8 [N, 32, 32, 3] and int64 [N]."""
    if images.dtype != torch.uint8 or images.shape[1:] != (IMAGE_SIZE, IMAGE_SIZE, 3):
        raise ValueError(f"images are {images.dtype} {tuple(images.shape)}, not uint8 [N, 32, 32, 3]")
    if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
        raise ValueError(f"labels are {labels.dtype} {tuple(labels.shape)}, not int64 [{len(images)}]")


def as_tensor(array: np.ndarray | torch.Tensor) -> torch.Tensor:
    """The array as a tensor over the same memory; a read-only one is copied, since torch knows no such."""
    if isinstance(array, torch.Tensor):
        return array
    return torch.from_numpy(array if array.flags.writeable else array.copy())
