"""The same draws through albumentations, DALI and torch: the pixels stay within their bounds, and faults do not."""

# DALI makes its operators and types when it is imported, so a type checker does not know them.
# pyright: reportAttributeAccessIssue=false

import dataclasses

import numpy as np
import pytest
import torch

from fastcifar.augment.draws import inverse_affine, sample_draws
from fastcifar.augment.policy import BORDERS, AugmentPolicy, dropout_fill
from fastcifar.augment.reference import augmented_levels
from fastcifar.dataset.load import load_dataset
from fastcifar.errors import FastcifarError

pytest.importorskip("nvidia.dali", reason="NVIDIA DALI is not installed: pip install '.[dali-cuda130]'")
pytest.importorskip("albumentations", reason="albumentations is not installed: pip install '.[parity]'")

from fastcifar.augment import dali_backend as dali
from fastcifar.parity import backends, compare, dali_runs
from fastcifar.parity.compare import compare_backends

MEAN, STD = (0.491400, 0.482158, 0.446531), (0.247032, 0.243485, 0.261588)
"""With all the digits that a data set's own statistics have: rounded ones hide what float32 makes of the others."""


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """1,000 of CIFAR-10's training images where they are to be found, else of shapes10's."""
    try:
        return load_dataset("cifar10", offline=True).train.images[:1000]
    except FastcifarError:
        return load_dataset("shapes10").train.images[:1000]


def broken(images: np.ndarray, border: str = "reflect-101") -> set[str]:
    """Transforms beyond their bounds, with the backend's name."""
    others = [backends.dali_backend("cpu"), backends.torch_backend("cpu")]
    found = list(compare_backends(images, backends.albumentations_backend(), others, MEAN, STD, [border]))
    assert len(found) == 16
    return {f"{row.backend}: {row.transform}" for row in found if not row.holds}


@pytest.mark.slow
@pytest.mark.parametrize("border", BORDERS)
def test_every_transform_of_every_backend_keeps_its_bound(images, border):
    assert broken(images, border) == set()


def test_noise_keeps_the_bounds_too():
    """Neighbours that differ as much as they can: the hardest case for an interpolation."""
    noise = np.random.default_rng(0).integers(0, 256, (200, 32, 32, 3), dtype=np.uint8)
    # The torch reference's bound on gray, a share of values near a rounding, is one for pictures.
    assert broken(noise) <= {"torch: gray"}


def clockwise(draws, *centre):
    return inverse_affine(dataclasses.replace(draws, angle_degrees=-draws.angle_degrees), *centre)


def about_a_corner(draws):
    return inverse_affine(draws, 16.0)


def scaled_last(draws):
    swapped = inverse_affine(dataclasses.replace(draws, scale_x=draws.scale_y, scale_y=draws.scale_x))
    return torch.where((draws.scale_x != draws.scale_y)[:, None, None], swapped, inverse_affine(draws))


def row_for_column(draws, *rest):
    swapped = dataclasses.replace(draws, hole_x=draws.hole_y, hole_y=draws.hole_x)
    return dali.motion_feeds(swapped, *rest)


AFFINES = {"dali: affine, classic", "dali: affine, albumentations-2"}


@pytest.mark.parametrize(
    ("module", "name", "fault", "caught"),
    [
        (dali, "inverse_affine", about_a_corner, AFFINES),  # 16 where 15.5 is right
        (dali, "inverse_affine", clockwise, AFFINES),
        (dali, "inverse_affine", scaled_last, {"dali: affine, albumentations-2"}),
        (dali, "BORDER_MODES", {"reflect-101": "reflect", "constant": "replicate"}, AFFINES),
        (dali_runs, "motion_feeds", row_for_column, {"dali: dropout"}),
    ],
    ids=["centre", "angle", "axes", "border", "hole"],
)
def test_a_planted_fault_breaks_a_bound(images, monkeypatch, module, name, fault, caught):
    monkeypatch.setattr(module, name, fault)
    assert caught <= broken(images[:100])


def upside_down(images, flip=dali.fn.flip):
    return flip(images, horizontal=0, vertical=1)


def average_gray(images, image_type, output_type):
    return dali.fn.cast(dali.fn.reductions.mean(images, axes=2, keep_dims=True), dtype=dali.types.UINT8)


@pytest.mark.parametrize(
    ("operator", "fault", "caught"),
    [("flip", upside_down, "dali: flip"), ("color_space_conversion", average_gray, "dali: gray")],
)
def test_a_wrong_operator_breaks_a_bound(images, monkeypatch, operator, fault, caught):
    monkeypatch.setattr(dali.fn, operator, fault)
    assert caught in broken(images[:100])


def test_constants_rounded_in_another_order_break_the_bound(images, monkeypatch):
    unrounded = [255 * channel for channel in MEAN], [255 * channel for channel in STD]
    monkeypatch.setattr(dali, "normalisation_constants", lambda mean, std: unrounded)
    assert broken(images[:100]) == {"dali: normalise"}


def test_the_bounds_are_those_that_were_promised():
    dali_bounds, torch_bounds = compare.BOUNDS["dali"], compare.BOUNDS["torch"]
    for name in ("affine, classic", "affine, albumentations-2"):
        assert dataclasses.astuple(dali_bounds[name]) == (1, 1e-4)
        assert dataclasses.astuple(torch_bounds[name]) == (1, 1e-3)
    for name in ("flip", "dropout", "gray", "normalise", "decode PNG"):
        assert name not in dali_bounds


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("size", [8, 16, 24, 40, 64])
def test_dali_at_other_sizes_is_the_reference_rounded(images, border, size):
    policy = AugmentPolicy(affine=0.8, rotate_degrees=45.0, dropout_size=11, gray=0.0, border=border)
    draws = sample_draws(policy, 3, 1, torch.arange(200))
    fill = dropout_fill(MEAN)
    found = dali_runs.levels(images[:200], draws, policy, fill, "cpu", size)
    expected = augmented_levels(torch.tensor(images[:200]), draws, policy, fill, size).permute(0, 2, 3, 1)
    assert found.shape == (200, size, size, 3)
    assert np.abs(found - expected.numpy()).max() < 0.51


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_what_the_gpu_operators_do_is_measured(images):
    others = [backends.dali_backend("cuda"), backends.torch_backend("cuda")]
    found = list(compare_backends(images, backends.albumentations_backend(), others, MEAN, STD))
    for row in found:
        print(row)
    assert max(row.largest for row in found if not row.transform.startswith("decode")) <= 2
