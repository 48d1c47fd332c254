"""100,000 draws of each generator, ours, DALI's and albumentations', against the laws of the policy."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from draw_sources import (
    LAGS,
    Arrays,
    albumentations_draws,
    composed,
    composed_parameters,
    dali_draws,
    dali_motion,
    our_draws,
)
from laws import MOTION, broken_laws
from scipy import stats

from fastcifar.augment.draws import AugmentDraws, inverse_affine
from fastcifar.augment.policy import AFFINE_LAWS, AugmentPolicy

COURSE = AugmentPolicy(affine=0.8, rotate_degrees=45.0, gray=0.2)

both_laws = pytest.mark.parametrize("policy", [replace(COURSE, affine_law=law) for law in AFFINE_LAWS], ids=AFFINE_LAWS)


@both_laws
@pytest.mark.parametrize("source", [our_draws, dali_draws, albumentations_draws])
def test_every_generator_follows_the_laws(source, policy):
    assert broken_laws(source(policy), policy, lags=LAGS) == set()


@both_laws
@pytest.mark.parametrize("source", [our_draws, dali_draws])
def test_the_motions_are_distributed_as_those_of_albumentations(source, policy):
    found, expected = source(policy), albumentations_draws(policy)
    for name in MOTION:
        first, second = (draws[name][draws["affine"]] for draws in (found, expected))
        if policy.affine_law == "albumentations-2" and name.startswith("shift"):
            counts = [[(shift == place).sum() for place in (-1, 0, 1)] for shift in (first, second)]
            p_value = np.asarray(stats.chi2_contingency(counts)[1])
        else:
            p_value = np.asarray(stats.ks_2samp(first, second))[1]
        assert p_value > 1e-3


def batch(draws: Arrays) -> AugmentDraws:
    return AugmentDraws(**{name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in draws.items()})


@both_laws
def test_a_compose_applies_what_was_drawn(policy):
    """Real calls take the very parameters behind the 100,000, and their matrices are the policy's motion."""
    count = 2000
    drawn = batch({name: values[:count] for name, values in albumentations_draws(policy).items()})
    inverse = inverse_affine(drawn).numpy()
    for row, (flip, affine, dropout, gray) in enumerate(composed_parameters(composed(policy), count)):
        applied = [bool(parameters) for parameters in (flip, affine, dropout, gray)]
        assert applied == [coin[row].item() for coin in (drawn.flip, drawn.affine, drawn.dropout, drawn.gray)]
        if affine:
            np.testing.assert_allclose(inverse[row] @ affine["matrix"], np.eye(3)[:2], atol=1e-12)
        if dropout:
            corner = np.array([drawn.hole_x[row].item(), drawn.hole_y[row].item()])
            np.testing.assert_array_equal(dropout["holes"], [[*corner, *(corner + policy.dropout_size)]])


def test_a_seeded_compose_turns_gray_whether_flipped_or_not():
    """albumentations' own way of seeding gives flip and gray the same numbers, and the test must see that."""
    pipeline = composed(COURSE)
    assert gray_given_flip(pipeline) > 1e-3
    pipeline.set_random_seed(5)
    assert gray_given_flip(pipeline) < 1e-9


def gray_given_flip(pipeline: Any) -> float:
    """p-value of the correlation between the two coins over 1,000 calls."""
    parameters = composed_parameters(pipeline, 1000)
    flipped, gray = (np.array([bool(row[column]) for row in parameters]) for column in (0, 3))
    return float(np.asarray(stats.pearsonr(flipped, gray))[1])


@both_laws
@pytest.mark.parametrize("size", [32, 16, 23])
def test_dali_moves_by_what_it_drew(policy, size):
    motion, draws = dali_motion(policy, seed=7, count=2000, size=size)
    from fastcifar.augment.dali_backend import motion_feeds  # after the line that may skip

    expected = motion_feeds(batch(draws), policy, size)
    expected_matrix = expected.pop("matrix")
    np.testing.assert_allclose(motion["matrix"], expected_matrix, atol=1e-5)
    for name in expected:
        np.testing.assert_array_equal(motion[name], expected[name], err_msg=name)
    for name in MOTION:
        moved = motion_feeds(batch(draws | {name: draws[name] + np.float32(1e-3)}), policy, size)["matrix"]
        assert np.abs(moved - expected_matrix).max() > 1e-4


def test_dali_draws_by_the_seed_and_not_by_the_threads():
    (motion, draws), (other_motion, other_draws) = (
        dali_motion(COURSE, seed=7, count=2000, threads=threads) for threads in (1, 2)
    )
    for name, values in (motion | draws).items():
        np.testing.assert_array_equal(values, (other_motion | other_draws)[name], err_msg=name)
    assert not np.array_equal(draws["angle_degrees"], dali_motion(COURSE, seed=8, count=2000)[1]["angle_degrees"])
