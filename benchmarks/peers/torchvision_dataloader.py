"""torchvision's v2 transforms in a torch DataLoader: an image at a time, in worker processes.

What differs from the policy: outside the image all is black, since RandomAffine knows no reflected border; it draws one
scale for both axes and rounds the shift to whole pixels; and a hole as large as the image cannot be had.
"""

from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from fastcifar.augment.normalisation import Colour
from fastcifar.augment.policy import IMAGE_SIZE, AugmentPolicy, dropout_fill


class AugmentedImages(Dataset[tuple[torch.Tensor, int]]):
    """Item i: image float32 [3, 32, 32], label."""

    def __init__(
        self, images: np.ndarray, labels: np.ndarray, policy: AugmentPolicy, mean: Colour, std: Colour
    ) -> None:
        self.images, self.labels = torch.from_numpy(images).permute(0, 3, 1, 2), labels
        self.transform = transforms(policy, mean, std)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.images[index]), int(self.labels[index])


def transforms(policy: AugmentPolicy, mean: Colour, std: Colour) -> v2.Compose:
    """uint8 [3, 32, 32] to float32 [3, 32, 32]."""
    affine = v2.RandomAffine(
        (-policy.rotate_degrees, policy.rotate_degrees),
        translate=(policy.shift, policy.shift),
        scale=(1 - policy.scale, 1 + policy.scale),
        interpolation=v2.InterpolationMode.BILINEAR,
    )
    area = (policy.dropout_size / IMAGE_SIZE) ** 2
    fill: Any = dropout_fill(mean)  # the annotation knows a single number only
    return v2.Compose(
        [
            v2.RandomHorizontalFlip(policy.flip),
            v2.RandomApply([affine], policy.affine),
            v2.RandomErasing(policy.dropout, scale=(area, area), ratio=(1.0, 1.0), value=fill),
            v2.RandomGrayscale(policy.gray),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(mean, std),
        ]
    )


def torchvision_dataloader(
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
    )
