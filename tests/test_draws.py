"""Random draws: published Philox answers, the formulas to the bit, and the affine matrix; their laws: parity/."""

import dataclasses

import numpy as np
import pytest
import torch

from fastcifar.augment import philox
from fastcifar.augment.draws import AugmentDraws, inverse_affine, sample_draws
from fastcifar.augment.policy import AFFINE_LAWS, AugmentPolicy

KNOWN_ANSWERS = [  # Random123's kat_vectors, philox4x32 with 10 rounds: counter, key, result
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]
COURSE = AugmentPolicy(rotate_degrees=45.0, dropout_size=16, gray=0.2)


def words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


def plain_philox(counter: list[int], key: list[int]) -> list[int]:
    """Philox 4x32-10 over unbounded integers, from the paper's figure: no wrapped products."""
    left0, right0, left1, right1 = counter[0], counter[1], counter[2], counter[3]
    for number in range(10):
        key0, key1 = ((key[i] + number * (0x9E3779B9, 0xBB67AE85)[i]) % 2**32 for i in (0, 1))
        high0, low0 = divmod(0xD2511F53 * left0, 2**32)
        high1, low1 = divmod(0xCD9E8D57 * left1, 2**32)
        left0, right0, left1, right1 = high1 ^ right0 ^ key0, low1, high0 ^ right1 ^ key1, low0
    return [left0, right0, left1, right1]


def found_philox(counter: list, key: list) -> list[int]:
    c0, c1, c2, c3 = counter
    return [int(word) for word in philox.philox4x32((c0, c1, c2, c3), (key[0], key[1]))]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_philox_gives_the_published_answers(counter, key, answer, monkeypatch):
    counter, key, answer = words(counter), words(key), words(answer)
    tensors = [torch.tensor([word]) for word in counter]
    assert plain_philox(counter, key) == answer
    assert found_philox(tensors, key) == answer
    assert found_philox(counter, key) == answer

    monkeypatch.setattr(philox, "ROUNDS", 9)
    assert found_philox(tensors, key) != answer


def test_philox_broadcasts_and_equals_plain_integers():
    random = np.random.default_rng(0)
    first, third = random.integers(0, 2**32, 57), random.integers(0, 2**32, (3, 1))
    key = [int(word) for word in random.integers(2**31, 2**32, 2)]
    found = philox.philox4x32((torch.tensor(first), 2**32 - 1, torch.tensor(third), 7), (key[0], key[1]))
    expected = [[plain_philox([int(a), 2**32 - 1, int(c[0]), 7], key) for a in first] for c in third]
    np.testing.assert_array_equal(torch.stack([torch.as_tensor(word) for word in found], dim=-1), expected)


@pytest.mark.parametrize("law", AFFINE_LAWS)
@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (1234, 7), (2**40 + 5, 3), (2**64 - 1, 2**32 - 1)])
def test_every_draw_follows_its_formula_to_the_bit(seed, epoch, law):
    policy = AugmentPolicy(
        flip=0.3, affine=0.7, rotate_degrees=33.3, shift=0.1, scale=0.17, dropout_size=11, affine_law=law
    )
    indices = [0, 1, 2, 49_999, 2**31, 2**32 - 1, *range(100, 150)]
    draws = sample_draws(policy, seed, epoch, torch.tensor(indices))
    key = [seed % 2**32, seed >> 32]
    f32 = np.float32
    for row, index in enumerate(indices):
        fractions = [[w >> 8 for w in plain_philox([index, epoch, block, 0], key)] for block in range(3)]
        coins = [f32(k) * f32(2**-24) for k in fractions[0]]
        angle, scale, shift_x, shift_y = (f32(2) * (f32(k) * f32(2**-24)) - f32(1) for k in fractions[1])
        moved = coins[1] < f32(0.7)
        shift_x, shift_y = shift_x * f32(0.1 * 32), shift_y * f32(0.1 * 32)
        other_scale = scale
        if law == "albumentations-2":
            shift_x, shift_y = f32(int(shift_x)), f32(int(shift_y))
            other_scale = f32(2) * (f32(fractions[2][2]) * f32(2**-24)) - f32(1)
        expected = {
            "flip": coins[0] < f32(0.3),
            "affine": moved,
            "dropout": coins[2] < f32(policy.dropout),
            "gray": coins[3] < f32(policy.gray),
            "angle_degrees": angle * f32(33.3) if moved else f32(0),
            "scale_x": f32(1) + scale * f32(0.17) if moved else f32(1),
            "scale_y": f32(1) + other_scale * f32(0.17) if moved else f32(1),
            "shift_x": shift_x if moved else f32(0),
            "shift_y": shift_y if moved else f32(0),
            "hole_x": fractions[2][0] * 22 // 2**24,
            "hole_y": fractions[2][1] * 22 // 2**24,
        }
        assert {name: getattr(draws, name)[row].item() for name in expected} == expected
    assert draws.angle_degrees.dtype == draws.scale_y.dtype == draws.shift_x.dtype == torch.float32
    assert draws.flip.dtype == draws.gray.dtype == torch.bool
    assert draws.hole_x.dtype == torch.int64


def test_draws_do_not_know_the_batch():
    indices = torch.randperm(1000, generator=torch.Generator().manual_seed(0))
    whole = sample_draws(COURSE, 5, 2, indices)
    for part in (slice(0, 1), slice(3, 70), slice(990, 1000)):
        piece = sample_draws(COURSE, 5, 2, indices[part])
        for field in dataclasses.fields(AugmentDraws):
            assert torch.equal(getattr(piece, field.name), getattr(whole, field.name)[part])


def test_no_setting_moves_another_draw():
    indices = torch.arange(500)
    always = sample_draws(AugmentPolicy(affine=1.0), 1, 1, indices)
    rarely = sample_draws(AugmentPolicy(flip=0.0, affine=0.2, dropout=0.0, gray=0.9), 1, 1, indices)
    moved = rarely.affine
    assert 50 < int(moved.sum()) < 150
    for name in ("angle_degrees", "scale_x", "scale_y", "shift_x", "shift_y"):
        assert torch.equal(getattr(always, name)[moved], getattr(rarely, name)[moved])
    assert torch.equal(always.hole_x, rarely.hole_x)
    assert not bool((rarely.flip | rarely.dropout).any())


def motion(count: int = 1, **values: float) -> AugmentDraws:
    """Draws of `count` equal images at rest but for `values`."""
    false, zero = torch.zeros(count, dtype=torch.bool), torch.zeros(count)
    rest = AugmentDraws(false, ~false, zero, zero + 1, zero + 1, zero, zero, false, zero.long(), zero.long(), false)
    changes = {name: torch.full((count,), value) for name, value in values.items()}
    return dataclasses.replace(rest, **changes)


@pytest.mark.parametrize("law", AFFINE_LAWS)
@pytest.mark.parametrize("centre", [15.5, 16.0, 0.0])
def test_the_inverse_matrix_inverts_the_product_of_its_factors(centre, law):
    policy = dataclasses.replace(COURSE, affine=0.9, scale=0.5, affine_law=law)
    draws = sample_draws(policy, 1, 1, torch.arange(200))
    found = inverse_affine(draws, centre)
    assert found.dtype == torch.float64
    matrices = found.numpy()
    there, back = np.eye(3), np.eye(3)
    there[:2, 2], back[:2, 2] = -centre, centre
    for row in range(200):
        angle = np.deg2rad(draws.angle_degrees[row].item())
        turn = np.array([[np.cos(angle), np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        grow = np.diag([draws.scale_x[row].item(), draws.scale_y[row].item(), 1])
        shift = np.array([[1, 0, draws.shift_x[row].item()], [0, 1, draws.shift_y[row].item()], [0, 0, 1]])
        np.testing.assert_allclose(matrices[row] @ (back @ shift @ turn @ grow @ there), np.eye(3)[:2], atol=1e-12)
    at_rest = ~draws.affine
    assert torch.equal(found[at_rest], torch.eye(2, 3, dtype=torch.float64).expand(int(at_rest.sum()), 2, 3))


@pytest.mark.parametrize(
    ("values", "source", "destination"),
    [
        (
            {"angle_degrees": 90.0},
            (25.5, 15.5),
            (15.5, 5.5),
        ),  # right of the centre goes up: counter-clockwise
        ({"angle_degrees": -90.0}, (25.5, 15.5), (15.5, 25.5)),
        ({"shift_x": 2.0, "shift_y": -3.0}, (10.0, 10.0), (12.0, 7.0)),
        ({"scale_x": 0.5}, (25.5, 25.5), (20.5, 25.5)),
        (
            {"angle_degrees": 90.0, "scale_x": 2.0, "scale_y": 3.0, "shift_x": 1.0},
            (17.5, 15.5),
            (16.5, 11.5),
        ),  # the scale comes first, the shift last
    ],
)
def test_known_motions_of_a_point(values, source, destination):
    matrix = inverse_affine(motion(**values))[0].numpy()
    np.testing.assert_allclose(matrix @ [*destination, 1], source, atol=1e-6)
