"""The reference augmentation against explicit float64 numpy, and its exact cases to the bit."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from explicit_augmentation import MEAN, STD, explicit, noise
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from fastcifar.augment import reference
from fastcifar.augment.draws import AugmentDraws, inverse_affine, sample_draws
from fastcifar.augment.policy import IDENTITY, AugmentPolicy
from fastcifar.augment.reference import apply_draws

LEVELS = (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)
"""Mean and deviation that leave grey levels as they are."""
EVERYTHING = AugmentPolicy(affine=0.8, rotate_degrees=45.0, gray=0.3)


def planes(images: torch.Tensor) -> torch.Tensor:
    return images.permute(0, 3, 1, 2).float()


def check_against_explicit(policy: AugmentPolicy, size: int, count: int = 13, seed: int = 1) -> None:
    images = noise(count, seed)
    draws = sample_draws(policy, seed, 5, torch.arange(count))
    rows = [{f.name: getattr(draws, f.name)[row].item() for f in dataclasses.fields(draws)} for row in range(count)]
    expected = np.stack([explicit(image.numpy(), one, policy, size) for image, one in zip(images, rows, strict=True)])
    expected = (expected / 255 - MEAN) / STD
    found = apply_draws(images, draws, policy, MEAN, STD, size).permute(0, 2, 3, 1).numpy()
    # float32 places are off by up to 3e-6 pixels, and neighbours in noise differ by up to 4 once normalised.
    np.testing.assert_allclose(found, expected, rtol=0, atol=4e-5)


@pytest.mark.parametrize("border", ["reflect-101", "constant"])
@pytest.mark.parametrize("size", [16, 24, 32, 40])
def test_every_step_equals_the_explicit_one(border, size):
    check_against_explicit(dataclasses.replace(EVERYTHING, border=border, dropout_size=11), size)


@pytest.mark.parametrize("size", [16, 32])
def test_every_step_equals_the_explicit_one_under_the_other_law(size):
    check_against_explicit(dataclasses.replace(EVERYTHING, affine_law="albumentations-2", shift=0.2), size)


@pytest.mark.parametrize("border", ["reflect-101", "constant"])
def test_motions_far_outside_the_image(border):
    wild = AugmentPolicy(affine=1.0, rotate_degrees=180.0, shift=1.0, scale=0.8, border=border, dropout=0.0)
    check_against_explicit(wild, 32, count=31)


def wrong_corners(images, grid, **_):
    return functional.grid_sample(images, grid, padding_mode="zeros", align_corners=True)


def repeats_the_edge(images, grid, **_):
    return functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


@pytest.mark.parametrize("fault", ["centre", "corners", "edge", "clockwise", "flip last", "late hole"])
def test_a_planted_fault_is_noticed(fault, monkeypatch):
    if fault == "centre":  # 16 where 15.5 is right
        monkeypatch.setattr(reference, "inverse_affine", lambda draws, centre: inverse_affine(draws, centre + 0.5))
    elif fault == "clockwise":
        mirror = torch.tensor([[1.0, -1.0, 1.0], [-1.0, 1.0, 1.0]], dtype=torch.float64)
        monkeypatch.setattr(reference, "inverse_affine", lambda draws, centre: inverse_affine(draws, centre) * mirror)
    elif fault == "flip last":
        original = reference.sampling_grid

        def late(draws, *rest):
            unflipped = original(dataclasses.replace(draws, flip=torch.zeros_like(draws.flip)), *rest)
            return torch.where(draws.flip[:, None, None, None], unflipped.flip(2), unflipped)

        monkeypatch.setattr(reference, "sampling_grid", late)
    elif fault == "late hole":
        original_mask = reference.hole_mask
        monkeypatch.setattr(reference, "hole_mask", lambda *args: original_mask(*args).roll(1, dims=2))
    else:
        sampler = wrong_corners if fault == "corners" else repeats_the_edge
        monkeypatch.setattr(reference, "functional", SimpleNamespace(grid_sample=sampler))
        if fault == "edge":
            monkeypatch.setattr(reference, "reflect_101", lambda grid: grid)
    with pytest.raises(AssertionError):
        check_against_explicit(EVERYTHING, 32)


@pytest.mark.parametrize("border", ["reflect-101", "constant"])
def test_images_at_rest_and_flipped_keep_their_values_to_the_bit(border):
    policy = AugmentPolicy(flip=0.5, affine=0.5, dropout=0.0, gray=0.0, border=border)
    images, draws = noise(64), sample_draws(policy, 0, 0, torch.arange(64))
    found = apply_draws(images, draws, policy, *LEVELS)
    untouched = apply_draws(images, None, policy, *LEVELS)
    rests, flips = ~draws.affine & ~draws.flip, ~draws.affine & draws.flip
    assert int(rests.sum()) > 5
    assert int(flips.sum()) > 5
    assert torch.equal(found[rests], untouched[rests])
    assert torch.equal(found[flips], untouched[flips].flip(3))


def test_normalising_is_exact_float32():
    levels = torch.arange(256, dtype=torch.uint8).repeat(12)
    images = levels.reshape(1, 32, 32, 3)
    found = apply_draws(images, None, IDENTITY, MEAN, STD)[0].permute(1, 2, 0).numpy()
    subtract, multiply = (
        (255 * np.array(MEAN)).astype(np.float32),
        (1 / (255 * np.array(STD))).astype(np.float32),
    )
    np.testing.assert_array_equal(found, (images[0].numpy().astype(np.float32) - subtract) * multiply)
    np.testing.assert_allclose(found, (images[0].numpy() / 255 - MEAN) / STD, rtol=0, atol=1e-6)


@pytest.mark.parametrize("border", ["reflect-101", "constant"])
def test_half_size_is_the_mean_of_two_by_two_pixels(border):
    images = noise(5)
    policy = dataclasses.replace(IDENTITY, border=border)
    found = apply_draws(images, None, policy, *LEVELS, size=16)
    assert torch.equal(found, functional.avg_pool2d(planes(images), 2))
    assert torch.equal(apply_draws(images, None, policy, *LEVELS, size=32), planes(images))


@pytest.mark.parametrize("size", [8, 20, 48, 64])
def test_evaluation_at_other_sizes_is_plain_interpolation(size):
    images = noise(3)
    found = apply_draws(images, None, IDENTITY, *LEVELS, size=size)
    expected = functional.interpolate(planes(images), size, mode="bilinear", align_corners=False)
    inner = slice(size // 16, -(size // 16))  # outside, interpolate repeats the edge and we mirror
    torch.testing.assert_close(found[..., inner, inner], expected[..., inner, inner], rtol=0, atol=2e-3)


def test_a_hole_has_the_mean_colour_and_gray_comes_after_it():
    policy = AugmentPolicy(flip=0.0, affine=0.0, dropout=1.0, dropout_size=32, gray=0.5)
    draws = sample_draws(policy, 0, 0, torch.arange(20))
    found = apply_draws(noise(20), draws, policy, MEAN, LEVELS[1]).permute(0, 2, 3, 1)
    levels = found + 255 * torch.tensor(MEAN)
    colour = torch.tensor([125.0, 122.0, 113.0])
    luma = torch.full((3,), 0.299 * 125 + 0.587 * 122 + 0.114 * 113)
    assert 0 < int(draws.gray.sum()) < 20
    for row in range(20):
        expected = luma if draws.gray[row] else colour
        torch.testing.assert_close(levels[row], expected.expand(32, 32, 3), rtol=0, atol=1e-3)


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [16, 32])
def test_layout_and_cast(count, dtype, size):
    images, draws = noise(count), sample_draws(EVERYTHING, 0, 0, torch.arange(count))
    for given in (draws, None):
        found = apply_draws(images, given, EVERYTHING, MEAN, STD, size, dtype)
        assert found.shape == (count, 3, size, size)
        assert found.stride() == (3 * size * size, 1, 3 * size, 3)
        assert torch.equal(found, apply_draws(images, given, EVERYTHING, MEAN, STD, size).to(dtype))


def test_the_stored_images_stay_as_they_are():
    images = noise(6)
    before = images.clone()
    for policy, draws in ((IDENTITY, None), (EVERYTHING, sample_draws(EVERYTHING, 0, 0, torch.arange(6)))):
        apply_draws(images, draws, policy, MEAN, STD)
    assert torch.equal(images, before)


def test_a_coin_of_probability_zero_costs_no_draws_of_the_others():
    images, indices = noise(9), torch.arange(9)
    policy = dataclasses.replace(EVERYTHING, dropout=0.0, gray=0.0, flip=0.0)
    never = torch.zeros(9, dtype=torch.bool)
    draws: AugmentDraws = sample_draws(EVERYTHING, 0, 0, indices)
    silenced = dataclasses.replace(draws, dropout=never, gray=never, flip=never)
    found = apply_draws(images, sample_draws(policy, 0, 0, indices), policy, MEAN, STD)
    assert torch.equal(found, apply_draws(images, silenced, EVERYTHING, MEAN, STD))


def test_nothing_is_read_back_from_the_device():
    with FakeTensorMode():  # tensors without values: reading one raises
        images = torch.zeros((4, 32, 32, 3), dtype=torch.uint8)
        draws = sample_draws(EVERYTHING, 1, 2, torch.arange(4))
        assert apply_draws(images, draws, EVERYTHING, MEAN, STD, 24).shape == (4, 3, 24, 24)
        with pytest.raises(Exception, match="_local_scalar_dense"):
            draws.scale_x[0].item()
