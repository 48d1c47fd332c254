"""The peers do the work that they are measured by: the plain networks, the tuned loop, the loaders on batches."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from graph_stand_in import record
from peers.plain_network import NETWORKS
from peers.resident_torch import ResidentTorch
from peers.transformed_batches import TransformedBatches, kornia_transform, torchvision_transform
from training_step import losses, our_step, pair, plain_step, step_work

from fastcifar.augment.policy import IDENTITY, AugmentPolicy
from fastcifar.errors import DeviceError
from fastcifar.model.registry import build_model
from fastcifar_kernels.sgd_ema import BACKENDS

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (70, 32, 32, 3), dtype=np.uint8)


def normalised(images: np.ndarray) -> torch.Tensor:
    """float32 [N, 3, 32, 32], by the formula in float64."""
    return torch.from_numpy((images / 255 - np.array(MEAN)) / np.array(STD)).permute(0, 3, 1, 2).float()


@pytest.mark.parametrize("name", NETWORKS)
def test_the_plain_networks_are_the_same_functions(name: str) -> None:
    torch.manual_seed(0)
    model, plain = build_model(name).eval(), NETWORKS[name]().eval()
    plain.load_state_dict(model.state_dict())
    for size in (16, 32):
        images = torch.randn(3, 3, size, size)
        torch.testing.assert_close(plain(images), model(images), rtol=1e-4, atol=1e-4)


def test_the_tuned_loop_makes_the_same_updates() -> None:
    case = pair("c1c2c3c40-speed"), 16, 32
    torch.testing.assert_close(losses(plain_step(*case))(), losses(our_step(*case))(), rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(BACKENDS["cpu"].used == "none", reason=BACKENDS["cpu"].reason)
@pytest.mark.parametrize("variant", [{"plain_network": True}, {"capture": record}], ids=["plain network", "graph"])
def test_every_kind_of_our_step_makes_the_same_updates(variant: dict[str, Any]) -> None:
    case = pair("c1c2c3c40-speed"), 16, 32
    torch.testing.assert_close(losses(our_step(*case, **variant))(), losses(our_step(*case))(), rtol=1e-4, atol=1e-4)


def test_operations_are_those_of_the_layers() -> None:
    """The stem, frozen, has no backward pass, and the layer behind it no gradient of its input."""
    macs = {
        "stem": 27 * 24 * 16**2,
        "c1": 9 * 24 * 32 * 8**2,
        "others": (9 * 32 * 48 * 8**2 + 9 * 48 * 64 * 4**2 + 9 * 64 * 96 * 4**2)
        + (9 * 96 + 96 * 96) * 2**2 * 2
        + 96 * 10,
    }
    found = step_work(pair("c1c2c3c40-speed"), 16, images=7)
    assert found.flops == 7 * 2 * (macs["stem"] + 2 * macs["c1"] + 3 * macs["others"])


def test_bytes_are_those_of_the_maps_between_layers() -> None:
    """The stem's map has no gradient that would be written and read."""
    stem = 24 * 16**2
    others = 32 * 8**2 + 48 * 8**2 + 64 * 4**2 + 96 * 4**2 + 96 * 2**2 + 96 * 2**2
    assert step_work(pair("c1c2c3c40-speed"), 16, images=7).bytes_moved == 7 * 4 * (3 * stem + 5 * others)
    assert step_work(pair("c1c2c3c40-speed"), 16, 7, torch.bfloat16).bytes_moved == 7 * 2 * (3 * stem + 5 * others)


def resident(
    images: np.ndarray, policy: AugmentPolicy, batch_size: int = 16
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    settings: dict[str, Any] = {"policy": policy, "mean": MEAN, "std": STD, "device": "cpu"}
    return list(ResidentTorch(images, np.arange(len(images)), batch_size, **settings))


def test_the_resident_peer_at_rest_only_normalises(images: np.ndarray) -> None:
    still = AugmentPolicy(flip=0.0, affine=0.0, dropout=0.0, gray=0.0, shift=0.0)
    batches = resident(images, still)
    assert [len(labels) for _, labels in batches] == [16] * 4
    found, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert len(labels.unique()) == 64
    torch.testing.assert_close(found, normalised(images)[labels], rtol=1e-5, atol=1e-5)


def test_the_resident_peer_flips_and_shifts_about_a_mirrored_border(images: np.ndarray) -> None:
    """Every image is one of the 2 x 5 x 5 crops of its padded self, and all of them come up."""
    policy = AugmentPolicy(flip=0.5, dropout=0.0)
    padded = normalised(np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="reflect"))
    seen = set()
    for _ in range(6):
        for batch, labels in resident(images, policy):
            for image, index in zip(batch, labels, strict=True):
                matches = [
                    (down, right, flipped)
                    for down in range(5)
                    for right in range(5)
                    for flipped in (False, True)
                    for crop in [padded[index, :, down : down + 32, right : right + 32]]
                    if torch.allclose(image, crop.flip(2) if flipped else crop, atol=1e-5)
                ]
                assert len(matches) == 1
                seen.update(matches)
    assert len(seen) > 45


def test_the_resident_peer_cuts_one_square_hole(images: np.ndarray) -> None:
    still = AugmentPolicy(flip=0.0, affine=0.0, dropout=0.5, dropout_size=9, gray=0.0, shift=0.0)
    holes = []
    for batch, labels in resident(images, still):
        missing = (batch == 0).all(1) & (normalised(images)[labels] != 0).any(1)
        holes += [(int(hole.sum()), int(hole.any(1).sum()), int(hole.any(0).sum())) for hole in missing]
    assert set(holes) == {(0, 0, 0), (81, 9, 9)}
    assert 16 < holes.count((81, 9, 9)) < 48


@pytest.mark.parametrize("make", [torchvision_transform, kornia_transform])
def test_transforms_on_batches_keep_images_with_their_labels(images: np.ndarray, make: Callable[..., Any]) -> None:
    transform = make(IDENTITY, MEAN, STD)
    batches = list(TransformedBatches(images, np.arange(len(images)), 16, transform, "cpu"))
    found, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert len(labels) == 64
    torch.testing.assert_close(found, normalised(images)[labels], rtol=1e-5, atol=1e-5)


def test_kornia_cuts_one_square_hole_of_the_mean_grey(images: np.ndarray) -> None:
    still = AugmentPolicy(flip=0.0, affine=0.0, dropout=0.5, dropout_size=9, gray=0.0)
    grey = (sum(MEAN) / 3 - torch.tensor(MEAN)) / torch.tensor(STD)
    holes = []
    for batch, _ in TransformedBatches(images, np.arange(70), 70, kornia_transform(still, MEAN, STD), "cpu"):
        missing = ((batch - grey[:, None, None]).abs() < 1e-5).all(1)
        holes += [(int(hole.sum()), int(hole.any(1).sum()), int(hole.any(0).sum())) for hole in missing]
    assert set(holes) == {(0, 0, 0), (81, 9, 9)}
    assert 16 < holes.count((81, 9, 9)) < 54


def test_kornia_is_left_out_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peers.transformed_batches.installed_version", lambda package: None)
    with pytest.raises(DeviceError, match="pip install kornia"):
        kornia_transform(AugmentPolicy(), MEAN, STD)
