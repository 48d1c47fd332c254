"""albumentations in a torch DataLoader: an image at a time, in worker processes."""

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from fastcifar.augment.albumentations_backend import compose, seed_compose
from fastcifar.augment.normalisation import Colour
from fastcifar.augment.policy import AugmentPolicy


class AugmentedImages(Dataset[tuple[torch.Tensor, int]]):
    """Item i: image float32 [3, 32, 32], label."""

    def __init__(
        self, images: np.ndarray, labels: np.ndarray, policy: AugmentPolicy, mean: Colour, std: Colour
    ) -> None:
        self.images, self.labels = images, labels
        self.compose = compose(policy, mean, std)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.compose(image=self.images[index])["image"], int(self.labels[index])


def albumentations_dataloader(
    images: np.ndarray,
    labels: np.ndarray,
    batch_size: int,
    *,
    policy: AugmentPolicy,
    mean: Colour,
    std: Colour,
    workers: int,
) -> DataLoader:
    """Shuffled whole batches: float32 [B, 3, 32, 32], int64 [B]; each iteration is an epoch.

    images, labels: uint8 [N, 32, 32, 3], int64 [N].
    """
    return DataLoader(
        AugmentedImages(images, labels, policy, mean, std),
        batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        worker_init_fn=_reseed,
    )


def _reseed(worker: int) -> None:
    """Without this all workers would make the same draws, see `compose`."""
    information = get_worker_info()
    assert information is not None
    dataset = information.dataset  # this worker's own copy
    assert isinstance(dataset, AugmentedImages)
    seed_compose(dataset.compose, torch.initial_seed() % 2**32)
