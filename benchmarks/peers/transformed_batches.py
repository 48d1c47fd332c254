"""A data set on the device, whole batches of which go through somebody's transforms: torchvision's v2, or kornia's.

torchvision draws once for all images of a batch, and so augments less; kornia draws for every image, which it takes as
floats, fills holes with a gray, and mirrors the border with its edge repeated.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from fastcifar.augment.normalisation import Colour
from fastcifar.augment.policy import IMAGE_SIZE, AugmentPolicy
from fastcifar.augment.requirements import installed_version
from fastcifar.errors import DeviceError
from fastcifar.loader.contract import Batch
from peers.torchvision_dataloader import transforms


class TransformedBatches:
    """Shuffled whole batches: float32 [B, 3, 32, 32], int64 [B]; each iteration is an epoch.

    Args:
        images, labels: uint8 [N, 32, 32, 3], int64 [N].
        transform: uint8 [B, 3, 32, 32] to float32.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        batch_size: int,
        transform: Callable[[Tensor], Tensor],
        device: str,
    ) -> None:
        self.images = torch.tensor(images, device=device).permute(0, 3, 1, 2)
        self.labels = torch.tensor(labels, device=device)
        self.batch_size, self.transform = batch_size, transform

    def __len__(self) -> int:
        return len(self.labels) // self.batch_size

    def __iter__(self) -> Iterator[Batch]:
        order = torch.randperm(len(self.labels), device=self.labels.device)
        for chosen in order[: len(self) * self.batch_size].split(self.batch_size):
            yield self.transform(self.images[chosen]), self.labels[chosen]


def torchvision_transform(policy: AugmentPolicy, mean: Colour, std: Colour) -> Callable[[Tensor], Tensor]:
    """The v2 transforms of `torchvision_dataloader.py`."""
    return transforms(policy, mean, std)


def kornia_transform(policy: AugmentPolicy, mean: Colour, std: Colour) -> Callable[[Tensor], Tensor]:
    """Its augmentations in one module.

    Raises:
        DeviceError: kornia is not installed.
    """
    if installed_version("kornia") is None:
        raise DeviceError("kornia is not installed", "pip install kornia")
    import kornia.augmentation as K

    area = (policy.dropout_size / IMAGE_SIZE) ** 2
    augment = nn.Sequential(
        K.RandomHorizontalFlip(policy.flip),
        K.RandomAffine(
            policy.rotate_degrees,
            translate=(policy.shift, policy.shift),
            scale=(1 - policy.scale, 1 + policy.scale),
            padding_mode="reflection",
            p=policy.affine,
        ),
        K.RandomErasing((area, area), (1.0, 1.0), value=sum(mean) / 3, p=policy.dropout),
        K.RandomGrayscale(p=policy.gray),
        K.Normalize(torch.tensor(mean), torch.tensor(std)),
    )
    return lambda images: augment(images.float() / 255)
