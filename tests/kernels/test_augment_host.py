"""The raw C++ of `augment` compiled here: for every level of x86-64, and the CUDA kernel's steps run on the host."""

import dataclasses
import random

import host_kernels
import numpy as np
import pytest
import torch
from augment_cases import EVERYTHING, POLICIES, WILD, assert_pixels, expected_pixels
from explicit_augmentation import MEAN, STD, noise

from fastcifar.augment.draws import AugmentDraws, sample_draws
from fastcifar.augment.policy import IDENTITY, AugmentPolicy
from fastcifar.augment.reference import apply_draws

MACHINES = ["x86-64", "x86-64-v3", "x86-64-v4"]
kernels = pytest.mark.parametrize(
    ("machine", "kernel"), [*((machine, "augment_on_cpu") for machine in MACHINES), ("x86-64", "augment_in_blocks")]
)


def run(
    machine: str, kernel: str, policy: AugmentPolicy, images: torch.Tensor, indices: torch.Tensor, size: int, parts=1
) -> tuple[torch.Tensor, torch.Tensor]:
    given = host_kernels.settings(policy, 7, MEAN, STD, size)
    pixels, draws = host_kernels.run(machine, kernel, given, 3, images, indices, parts)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.from_numpy(draws)


@kernels
@pytest.mark.parametrize("name", POLICIES)
def test_every_pixel_is_written_and_equals_the_float64_one(machine, kernel, name):
    images, policy, chance = noise(60, seed=4), POLICIES[name], random.Random(name)
    for size in (8, 32, 33, chance.randint(9, 31), chance.randint(34, 64)):
        indices = torch.tensor(chance.choices(range(60), k=5))
        found, _ = run(machine, kernel, policy, images, indices, size)
        assert_pixels(found, expected_pixels(images, indices, policy, 7, 3, size))


@kernels
@pytest.mark.parametrize("law", ["classic", "albumentations-2"])
def test_draws_equal_those_of_plain_torch_to_the_bit(machine, kernel, law):
    policy = dataclasses.replace(WILD, affine=0.7, scale=0.17, dropout_size=13, affine_law=law)
    images, indices = noise(1).expand(4000, -1, -1, -1).contiguous(), torch.randperm(4000)
    _, found = run(machine, kernel, policy, images, indices, size=8)
    draws = sample_draws(policy, 7, 3, indices)
    expected = torch.stack([getattr(draws, field.name).float() for field in dataclasses.fields(AugmentDraws)], dim=1)
    assert torch.equal(found, expected)


@kernels
def test_images_without_motion_equal_the_reference_to_the_bit(machine, kernel):
    images, indices = noise(30), torch.randperm(30)
    found, _ = run(machine, kernel, IDENTITY, images, indices, 32)
    assert torch.equal(found, apply_draws(images[indices], None, IDENTITY, MEAN, STD))


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("count", [1, 2, 7, 16])
def test_shares_of_a_batch_make_the_whole_in_any_order(machine, count):
    images, indices = noise(20), torch.randperm(20)[:count]
    for size in (32, 11):
        whole, _ = run(machine, "augment_on_cpu", EVERYTHING, images, indices, size)
        for parts in (2, 3, 5):  # a share that wrote beyond its end would spoil the one after it, done before
            pieces, _ = run(machine, "augment_on_cpu", EVERYTHING, images, indices, size, parts)
            assert torch.equal(pieces, whole)


def test_the_steps_of_a_block_equal_the_cpu_kernel():
    images, indices = noise(50), torch.randperm(50)
    for policy in (EVERYTHING, POLICIES["black"]):
        steps, _ = run("x86-64", "augment_in_blocks", policy, images, indices, 45)
        loops, _ = run("x86-64", "augment_on_cpu", policy, images, indices, 45)
        np.testing.assert_allclose(steps, loops, rtol=0, atol=1e-6)
