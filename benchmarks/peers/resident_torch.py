"""A data set on the device, augmented there in plain torch, in the manner of airbench: flip, shift, cutout.

Every image has its own draws. Shifts are whole pixels into a border mirrored once and for all; there is no rotation, no
scaling and no gray, so that this does less than fastcifar's policy.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from fastcifar.augment.normalisation import Colour
from fastcifar.augment.policy import IMAGE_SIZE, AugmentPolicy
from fastcifar.loader.contract import Batch


class ResidentTorch:
    """Shuffled whole batches: float32 [B, 3, 32, 32] in channels_last, int64 [B]; each iteration is an epoch.

    images, labels: uint8 [N, 32, 32, 3], int64 [N].
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        batch_size: int,
        *,
        policy: AugmentPolicy,
        mean: Colour,
        std: Colour,
        device: str,
    ) -> None:
        self.shift = round(policy.shift * IMAGE_SIZE)
        around = ((0, 0), (self.shift, self.shift), (self.shift, self.shift), (0, 0))
        self.padded = torch.from_numpy(np.pad(images, around, mode="reflect")).to(device)
        self.labels = torch.from_numpy(labels).to(device)
        self.batch_size, self.policy = batch_size, policy
        self.mean, self.deviation = (255 * torch.tensor(colour, device=device) for colour in (mean, std))
        self.places = torch.arange(IMAGE_SIZE, device=device)

    def __len__(self) -> int:
        return len(self.labels) // self.batch_size

    def __iter__(self) -> Iterator[Batch]:
        order = torch.randperm(len(self.labels), device=self.labels.device)
        for chosen in order[: len(self) * self.batch_size].split(self.batch_size):
            yield self._augmented(chosen), self.labels[chosen]

    def _augmented(self, chosen: Tensor) -> Tensor:
        count, device = len(chosen), chosen.device
        columns = self.places.expand(count, -1)
        flipped = torch.rand(count, 1, device=device) < self.policy.flip
        columns = torch.where(flipped, columns.flip(1), columns)
        down, right = torch.randint(0, 2 * self.shift + 1, (2, count, 1), device=device)
        rows, columns = (self.places + down)[:, :, None], (columns + right)[:, None, :]
        pixels = self.padded[chosen[:, None, None], rows, columns]
        images = (pixels - self.mean) / self.deviation
        images.masked_fill_(self._holes(count)[..., None], 0)
        return images.permute(0, 3, 1, 2)

    def _holes(self, count: int) -> Tensor:
        """bool [count, 32, 32]: a square each, in as many images as the policy says."""
        size, device = self.policy.dropout_size, self.places.device
        top, left = torch.randint(0, IMAGE_SIZE - size + 1, (2, count, 1), device=device)
        top[torch.rand(count, 1, device=device) >= self.policy.dropout] = IMAGE_SIZE  # outside the image
        rows, columns = ((self.places >= first) & (self.places < first + size) for first in (top, left))
        return rows[:, :, None] & columns[:, None, :]
