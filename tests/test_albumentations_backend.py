"""The policy as an ordinary albumentations Compose: a seed decides it, and its parameters reproduce its pixels."""

import dataclasses

import numpy as np
import pytest
import torch

from fastcifar.augment.policy import BORDERS, AugmentPolicy

pytest.importorskip("albumentations", reason="albumentations is not installed: pip install '.[parity]'")

from fastcifar.augment.albumentations_backend import (
    augmented_levels,
    compose,
    normalised,
    shift_scale_rotate,
)
from fastcifar.augment.draws import AugmentDraws

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
IMAGES = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
EVERYTHING = AugmentPolicy(affine=0.9, rotate_degrees=45.0, gray=0.3)


def run(policy: AugmentPolicy, seed: int) -> torch.Tensor:
    transform = compose(policy, MEAN, STD, seed)
    return torch.stack([transform(image=image)["image"] for image in IMAGES])


def test_a_seed_decides_the_batch():
    first = run(EVERYTHING, 1)
    assert first.shape == (40, 3, 32, 32)
    assert first.dtype == torch.float32
    assert torch.equal(first, run(EVERYTHING, 1))
    assert not torch.equal(first, run(EVERYTHING, 2))


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("law", ["classic", "albumentations-2"])
def test_its_recorded_parameters_reproduce_its_pixels(border, law):
    policy = dataclasses.replace(EVERYTHING, affine=1.0, flip=0.0, dropout=0.0, gray=0.0, border=border, affine_law=law)
    transform = shift_scale_rotate(policy)
    transform.set_random_seed(5)
    for image in IMAGES:
        made = transform(image=image)["image"]
        used = transform.params
        if law == "classic":
            assert used["scale"]["x"] == used["scale"]["y"]
        else:
            assert used["scale"]["x"] != used["scale"]["y"]
        draws = draws_of(used, law)
        again = augmented_levels(image[None], draws, policy, (0, 0, 0))[0]
        difference = np.abs(made.astype(int) - again)
        # The draws pass through float32, which moves a place by a millionth of a pixel.
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.01


def draws_of(used: dict, law: str) -> AugmentDraws:
    """What albumentations drew for one image; the shift is the matrix's, less what turning about the centre adds."""
    matrix = np.asarray(used["matrix"])
    shift = matrix[:2] @ [15.5, 15.5, 1] - 15.5
    if law == "albumentations-2":
        np.testing.assert_allclose(shift, shift.round(), atol=1e-6)
        assert np.abs(shift.round()).max() <= 1
    no, yes = torch.tensor([False]), torch.tensor([True])
    values = [used["rotate"], used["scale"]["x"], used["scale"]["y"], *shift]
    angle, scale_x, scale_y, shift_x, shift_y = (torch.tensor([float(value)]) for value in values)
    corner = torch.zeros(1, dtype=torch.int64)
    return AugmentDraws(no, yes, angle, scale_x, scale_y, shift_x, shift_y, no, corner, corner, no)


def test_a_policy_at_rest_only_normalises():
    rest = AugmentPolicy(flip=0.0, affine=0.0, dropout=0.0, gray=0.0)
    expected = (IMAGES / 255 - MEAN) / STD
    np.testing.assert_allclose(run(rest, 0).permute(0, 2, 3, 1), expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(run(rest, 0).permute(0, 2, 3, 1), normalised(IMAGES, MEAN, STD))
