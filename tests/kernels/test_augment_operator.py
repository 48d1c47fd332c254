"""The operator `augment` where its library or Triton serves: against float64, draws to the bit, torch's own checks."""

import dataclasses
import random
from typing import Any

import pytest
import torch
from augment_cases import EVERYTHING, POLICIES, assert_pixels, assert_same_draws, expected_pixels
from explicit_augmentation import MEAN, STD, noise

from fastcifar.augment import fused
from fastcifar.augment.draws import sample_draws
from fastcifar.augment.policy import AFFINE_LAWS, IDENTITY, AugmentPolicy, dropout_fill
from fastcifar.augment.reference import apply_draws
from fastcifar_kernels.augment import BACKENDS, augment

LEVELS = (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)
"""Mean and deviation that leave grey levels as they are."""


def need(device: str) -> torch.device:
    """The device, or a skip with the reason why nothing serves it."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    if BACKENDS[device].used == "none":
        pytest.skip(BACKENDS[device].reason)
    return torch.device(device)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    return need(request.param)


@pytest.mark.parametrize("name", POLICIES)
def test_pixels_equal_the_float64_ones_at_any_size(device, name):
    images, policy, chance = noise(60, seed=4), POLICIES[name], random.Random(name)
    for size in (8, 32, 64, *(chance.randint(9, 63) for _ in range(4))):
        indices = torch.tensor(chance.choices(range(60), k=9))
        found = fused.apply(images.to(device), indices.to(device), 7, 3, policy, MEAN, STD, size)
        assert_pixels(found, expected_pixels(images, indices, policy, 7, 3, size))


@pytest.mark.parametrize("law", AFFINE_LAWS)
@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (1234, 7), (2**40 + 5, 3), (2**64 - 1, 2**32 - 1)])
def test_draws_equal_those_of_plain_torch_to_the_bit(device, seed, epoch, law):
    policy = AugmentPolicy(
        flip=0.3, affine=0.7, rotate_degrees=33.3, shift=0.1, scale=0.17, dropout_size=13, affine_law=law
    )
    indices = torch.randperm(3000, generator=torch.Generator().manual_seed(epoch % 1000))
    images = noise(1).expand(3000, -1, -1, -1).contiguous()
    _, found = fused.apply_and_return_draws(
        images.to(device), indices.to(device), seed, epoch, policy, MEAN, STD, size=8
    )
    assert_same_draws(found, sample_draws(policy, seed, epoch, indices))


@pytest.mark.parametrize("epoch", [0, 7, 2**31, 2**32 - 1])
def test_an_epoch_on_the_device_is_that_of_the_host(device, epoch):
    images, indices = noise(50).to(device), torch.arange(50, device=device)
    given = torch.tensor(epoch, device=device)
    found = fused.apply_and_return_draws(images, indices, 7, given, EVERYTHING, MEAN, STD)
    assert_same_draws(found[1], sample_draws(EVERYTHING, 7, epoch, indices.cpu()))
    assert_same_draws(found[1], sample_draws(EVERYTHING, 7, given.cpu(), indices.cpu()))
    assert torch.equal(found[0], fused.apply(images, indices, 7, epoch, EVERYTHING, MEAN, STD))


@pytest.mark.gpu
def test_a_captured_batch_is_drawn_for_the_epoch_of_its_replay():
    device = need("cuda")
    images, indices, epoch = noise(50).to(device), torch.arange(50, device=device), torch.zeros(1, device=device).long()
    fused.apply(images, indices, 7, epoch, EVERYTHING, MEAN, STD)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = fused.apply(images, indices, 7, epoch, EVERYTHING, MEAN, STD)
    for number in (3, 2**32 - 1):
        epoch.fill_(number)
        graph.replay()
        assert torch.equal(found, fused.apply(images, indices, 7, number, EVERYTHING, MEAN, STD))


@pytest.mark.parametrize(
    "fault", ["seed", "epoch", "indices", "border", "law", "angle", "hole", "mean", "size of hole"]
)
def test_a_planted_fault_is_noticed(device, fault):
    images, indices, policy = noise(40), torch.arange(20), dataclasses.replace(EVERYTHING, shift=0.2)
    seed, epoch, asked, mean = 7, 3, policy, MEAN
    changes = {
        "border": {"border": "constant"},
        "law": {"affine_law": "albumentations-2"},
        "angle": {"rotate_degrees": 45.001},
        "hole": {"dropout": 0.45},
        "size of hole": {"dropout_size": 12},
    }
    seed, epoch = seed + (fault == "seed"), epoch + (fault == "epoch")
    asked = dataclasses.replace(policy, **changes.get(fault, {}))
    mean = (0.4915, 0.4822, 0.4465) if fault == "mean" else MEAN
    given = indices.flip(0) if fault == "indices" else indices
    found = fused.apply(images.to(device), given.to(device), seed, epoch, asked, mean, STD)
    with pytest.raises(AssertionError):
        assert_pixels(found, expected_pixels(images, indices, policy, 7, 3, 32))


@pytest.mark.parametrize("border", ["reflect-101", "constant"])
def test_images_at_rest_and_flipped_keep_their_values_to_the_bit(device, border):
    policy = AugmentPolicy(flip=0.5, affine=0.5, dropout=0.0, gray=0.0, border=border)
    images, indices = noise(64), torch.arange(64)
    draws = sample_draws(policy, 0, 0, indices)
    found = fused.apply(images.to(device), indices.to(device), 0, 0, policy, MEAN, STD).cpu()
    untouched = apply_draws(images, None, policy, MEAN, STD)
    rests, flips = ~draws.affine & ~draws.flip, ~draws.affine & draws.flip
    assert int(rests.sum()) > 5
    assert int(flips.sum()) > 5
    assert torch.equal(found[rests], untouched[rests])
    assert torch.equal(found[flips], untouched[flips].flip(3))


def test_evaluation_equals_the_reference(device):
    images, indices = noise(33), torch.randperm(33)
    for size, tolerance in ((32, 0), (16, 1e-6), (24, 1e-5), (48, 1e-5)):
        found = fused.apply(images.to(device), indices.to(device), 0, 0, IDENTITY, MEAN, STD, size).cpu()
        expected = apply_draws(images[indices], None, IDENTITY, MEAN, STD, size)
        torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)
    levels = fused.apply(images.to(device), indices.to(device), 0, 0, IDENTITY, *LEVELS).cpu()
    assert torch.equal(levels, images[indices].permute(0, 3, 1, 2).float())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [17, 32])
def test_the_narrow_types_are_the_float32_image_rounded(device, dtype, size):
    images, indices = noise(50).to(device), torch.arange(50, device=device)
    wide = (0.49, 0.48, 0.45), (1e-7, 0.25, 3e-4)  # levels from the subnormal to beyond float16's range
    for mean, std in ((MEAN, STD), wide, (MEAN, (2e4, 3e3, 1.0))):
        found = fused.apply(images, indices, 1, 2, EVERYTHING, mean, std, size, dtype)
        assert torch.equal(found, fused.apply(images, indices, 1, 2, EVERYTHING, mean, std, size).to(dtype))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 17, 33])
def test_the_batch_is_channels_last_whatever_its_count(device, count):
    images, indices = noise(40), torch.arange(count)
    for dtype in (torch.float32, torch.bfloat16):
        found = fused.apply(images.to(device), indices.to(device), 5, 6, EVERYTHING, MEAN, STD, 19, dtype)
        assert found.shape == (count, 3, 19, 19)
        assert found.dtype == dtype
        assert found.device.type == device.type
        if count:
            assert found.stride() == (3 * 19 * 19, 1, 3 * 19, 3)
            assert_pixels(
                found, expected_pixels(images, indices, EVERYTHING, 5, 6, 19), 1e-5 if dtype.itemsize == 4 else 1e-2
            )


def test_an_image_does_not_know_its_batch(device):
    images, indices = noise(70).to(device), torch.randperm(70).to(device)
    whole = fused.apply(images, indices, 5, 6, EVERYTHING, MEAN, STD, 32)
    for part in (slice(0, 1), slice(3, 40), slice(69, 70)):
        assert torch.equal(fused.apply(images, indices[part], 5, 6, EVERYTHING, MEAN, STD, 32), whole[part])
    assert torch.equal(fused.apply(images, indices[::2], 5, 6, EVERYTHING, MEAN, STD, 32), whole[::2])


def test_threads_change_nothing():
    need("cpu")
    images, indices = noise(101), torch.randperm(101)
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(fused.apply(images, indices, 5, 6, EVERYTHING, MEAN, STD, 25))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


SETTINGS: dict[str, Any] = {
    "seed": 3,
    "epoch": 1,
    "flip": 0.5,
    "affine": 0.5,
    "rotate_degrees": 15.0,
    "shift": 0.0625,
    "scale": 0.1,
    "by_axis": False,
    "reflect": True,
    "dropout": 0.5,
    "dropout_size": 16,
    "gray": 0.1,
    "hole_levels": dropout_fill(MEAN),
    "mean": (125.3, 123.0, 113.9),
    "std": (63.0, 62.1, 66.7),
}


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"size": 7}, ValueError, "8 to 64"),
        ({"size": 65}, ValueError, "8 to 64"),
        ({"dropout_size": 33}, ValueError, "1 to 32"),
        ({"dtype": torch.float64}, ValueError, "float16"),
        ({"images": noise(4).float()}, ValueError, "uint8"),
        ({"images": noise(4)[:, :31]}, ValueError, "32, 32, 3"),
        ({"images": noise(4).permute(0, 3, 1, 2)}, ValueError, "32, 32, 3"),
        ({"images": noise(8)[::2]}, ValueError, "contiguous"),
        ({"indices": torch.arange(2, dtype=torch.int32)}, ValueError, "int64"),
        ({"indices": torch.zeros(2, 2, dtype=torch.int64)}, ValueError, "int64"),
        ({"epoch": torch.zeros(2, dtype=torch.int64)}, ValueError, "one int64"),
        ({"epoch": torch.zeros((), dtype=torch.int32)}, ValueError, "one int64"),
    ],
)
def test_what_does_not_fit_is_refused(device, change, error, said):
    arguments = {
        "images": noise(4),
        "indices": torch.arange(2),
        "size": 32,
        "dtype": torch.float32,
        **SETTINGS,
        **change,
    }
    arguments |= {name: value.to(device) for name, value in arguments.items() if isinstance(value, torch.Tensor)}
    if change.get("images") is not None and "contiguous" in said and device.type == "cuda":
        arguments["images"] = noise(8).to(device)[::2]
    with pytest.raises(error, match=said):
        augment(**arguments)


@pytest.mark.parametrize("index", [-1, 4, 2**40])
def test_an_index_outside_the_images(device, index):
    images, indices = noise(4).to(device), torch.tensor([1, index, 2], device=device)
    if device.type == "cpu":
        with pytest.raises(IndexError, match="outside the images"):
            fused.apply(images, indices, 0, 0, EVERYTHING, MEAN, STD)
        return
    found = fused.apply(images, indices, 0, 0, EVERYTHING, MEAN, STD)
    assert bool(found[1].isnan().all())
    assert not bool(found[::2].isnan().any())


def test_torch_checks_the_operator(device):
    images, indices = noise(9).to(device), torch.arange(4, device=device)
    settings = [list(value) if isinstance(value, tuple) else value for value in SETTINGS.values()]
    settings[-3] = [float(level) for level in SETTINGS["hole_levels"]]
    settings[1] = torch.tensor(SETTINGS["epoch"], device=device)
    arguments = (images, indices, *settings, 24, torch.float32, True)
    results = torch.library.opcheck(torch.ops.fastcifar_kernels.augment.default, arguments)
    assert set(results.values()) == {"SUCCESS"}


def test_the_operator_survives_compilation_in_one_graph(device):
    images, indices = noise(9).to(device), torch.arange(4, device=device)

    def batch(epoch: int) -> torch.Tensor:
        return augment(images, indices, **(SETTINGS | {"epoch": epoch}), size=24)[0]  # pyright: ignore[reportArgumentType]

    compiled = torch.compile(batch, fullgraph=True)
    for epoch in (1, 2, 3):
        found = compiled(epoch)
        assert torch.equal(found, batch(epoch))
        assert found.stride() == batch(epoch).stride()
