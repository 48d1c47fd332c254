"""What the tests of every backend of `augment` share: policies, expected pixels in float64, and the comparison."""

import dataclasses

import numpy as np
import torch
from explicit_augmentation import MEAN, STD, explicit

from fastcifar.augment.draws import AugmentDraws, sample_draws
from fastcifar.augment.policy import AugmentPolicy

EVERYTHING = AugmentPolicy(affine=0.8, rotate_degrees=45.0, dropout_size=11, gray=0.3)
WILD = AugmentPolicy(affine=1.0, rotate_degrees=180.0, shift=1.0, scale=0.9, dropout=0.0)
"""Places lie up to 700 pixels outside the image."""

POLICIES = {
    "reflect": EVERYTHING,
    "black": dataclasses.replace(EVERYTHING, border="constant"),
    "by axis": dataclasses.replace(EVERYTHING, affine_law="albumentations-2", shift=0.2),
    "by axis, black": dataclasses.replace(EVERYTHING, affine_law="albumentations-2", border="constant", flip=1.0),
    "wild": WILD,
    "wild, black": dataclasses.replace(WILD, border="constant"),
}
PIXEL_TOLERANCE = 1e-5
"""Of normalised float32 against float64: places are off by 5e-7 pixels, neighbours in noise differ by up to 4."""


def expected_pixels(
    images: torch.Tensor, indices: torch.Tensor, policy: AugmentPolicy, seed: int, epoch: int, size: int
) -> np.ndarray:
    """Normalised float64 [B, 3, size, size]."""
    draws = sample_draws(policy, seed, epoch, indices)
    fields = [field.name for field in dataclasses.fields(draws)]
    found = np.empty((len(indices), size, size, 3))
    for row, index in enumerate(indices.tolist()):
        one = {name: getattr(draws, name)[row].item() for name in fields}
        found[row] = (explicit(images[index].numpy(), one, policy, size) / 255 - MEAN) / STD
    return found.transpose(0, 3, 1, 2)


def assert_pixels(found: torch.Tensor, expected: np.ndarray, tolerance: float = PIXEL_TOLERANCE) -> None:
    np.testing.assert_allclose(found.float().cpu().numpy(), expected, rtol=0, atol=tolerance)


def assert_same_draws(found: AugmentDraws, expected: AugmentDraws) -> None:
    for field in dataclasses.fields(AugmentDraws):
        ours, theirs = getattr(found, field.name).cpu(), getattr(expected, field.name)
        assert ours.dtype == theirs.dtype, field.name
        assert torch.equal(ours, theirs), field.name
