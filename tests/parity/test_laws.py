"""Draws with a planted fault break the law that they ought to, and no other."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from draw_sources import BATCH, COUNT, LAGS, our_draws
from laws import Draws, broken_laws

from fastcifar.augment.draws import sample_draws
from fastcifar.augment.policy import AugmentPolicy

CLASSIC = AugmentPolicy(affine=0.8, rotate_degrees=45.0, gray=0.2)
CUT = replace(CLASSIC, affine_law="albumentations-2")


@pytest.mark.parametrize(
    ("law", "setting", "caught"),
    [
        (CLASSIC, {"rotate_degrees": 44.0}, {"angle_degrees"}),
        (CLASSIC, {"scale": 0.098}, {"scale_x"}),
        (CUT, {"scale": 0.098}, {"scale_x", "scale_y"}),
        (CLASSIC, {"scale": 0.102}, {"scale_x"}),
        (CLASSIC, {"shift": 0.0612}, {"shift_x", "shift_y"}),
        (CUT, {"shift": 0.0612}, {"shift_x", "shift_y"}),
        (CUT, {"shift": 0.0638}, {"shift_x", "shift_y"}),
        (CLASSIC, {"dropout_size": 17}, {"hole"}),  # 0..15
        (CLASSIC, {"dropout_size": 15}, {"hole"}),
        (CLASSIC, {"affine_law": "albumentations-2"}, {"scale_y", "shift_x", "shift_y"}),
        (CUT, {"affine_law": "classic"}, {"correlation", "shift_x", "shift_y"}),
    ],
)
def test_another_setting_breaks_its_law(law, setting, caught):
    assert broken_laws(our_draws(replace(law, **setting)), law) == caught


@pytest.mark.parametrize("coin", ["flip", "affine", "dropout", "gray"])
@pytest.mark.parametrize("p", [0.48, 0.52])
def test_a_coin_of_another_weight_breaks_its_law(coin, p):
    assert broken_laws(our_draws(replace(CLASSIC, **{coin: p})), replace(CLASSIC, **{coin: 0.5})) == {coin}


def moved(good: Draws, values: np.ndarray) -> np.ndarray:
    return np.where(good["affine"], values, 0).astype(np.float32)


def some(values: np.ndarray, others: np.ndarray | bool, share: float = 0.03) -> np.ndarray:
    """In a few images the other draw."""
    return np.where(np.random.default_rng(1).random(COUNT) < share, others, values)


def once(values: np.ndarray, value: float, among: np.ndarray) -> np.ndarray:
    """The value in a single image, one of those where `among` is True."""
    return np.where(np.arange(COUNT) == np.flatnonzero(among)[7], value, values)


def angles() -> np.ndarray:
    """A normal law with the mean and variance of the uniform one."""
    return np.random.default_rng(0).normal(0, 45 / 3**0.5, COUNT)


def rounded_ends() -> np.ndarray:
    """Whole places rounded from a uniform number, so that both ends are half as likely."""
    return np.rint(np.random.default_rng(0).uniform(0, 16, COUNT))


def corner_by_angle(good: Draws) -> np.ndarray:
    return np.where(good["affine"], (good["angle_degrees"] / 90 + 0.5) * 17 // 1, good["hole_y"])


@pytest.mark.parametrize(
    ("name", "fault", "caught"),
    [
        ("angle_degrees", lambda good: moved(good, good["angle_degrees"] + 1), "angle_degrees"),
        ("angle_degrees", lambda good: moved(good, angles()), "angle_degrees"),
        ("angle_degrees", lambda good: moved(good, angles().clip(-45, 45)), "angle_degrees"),
        ("angle_degrees", lambda good: once(good["angle_degrees"], 46, good["affine"]), "angle_degrees"),
        ("angle_degrees", lambda good: once(good["angle_degrees"], 3, ~good["affine"]), "rest"),
        ("shift_x", lambda good: np.trunc(good["shift_x"]), "shift_x"),
        ("scale_y", lambda good: some(good["scale_y"], 2 - good["scale_x"], 0.001), "scale_y"),
        ("hole_x", lambda good: np.minimum(good["hole_x"], 15), "hole"),
        ("hole_y", lambda good: rounded_ends(), "hole"),
        ("hole_x", lambda good: once(good["hole_x"], 17, good["dropout"]), "hole"),
        ("hole_x", lambda good: some(good["hole_x"], good["hole_x"] + 0.5), "hole"),
        ("hole_y", lambda good: some(good["hole_x"], 16 - good["hole_x"], 0.5), "hole"),  # uniform, uncorrelated
        ("shift_y", lambda good: some(good["shift_y"], good["shift_x"]), "correlation"),
        ("shift_y", lambda good: some(good["shift_y"], -good["shift_x"]), "correlation"),
        ("hole_y", lambda good: some(good["hole_y"], corner_by_angle(good)), "correlation"),
        ("dropout", lambda good: some(good["dropout"], good["flip"]), "correlation"),
        ("gray", lambda good: good["flip"] & some(good["flip"], False, 0.6), "correlation"),  # only where flipped
        ("flip", lambda good: some(good["flip"], np.roll(good["dropout"], 1)), "serial"),
    ],
)
def test_a_fault_in_a_classic_draw_is_caught(name, fault, caught):
    good = our_draws(CLASSIC)
    assert broken_laws(good | {name: fault(good)}, CLASSIC) == {caught}


@pytest.mark.parametrize(
    ("name", "fault", "caught"),
    [
        ("shift_x", lambda good: our_draws(CLASSIC)["shift_x"], "shift_x"),  # of any length
        ("shift_y", lambda good: np.rint(our_draws(CLASSIC)["shift_y"]), "shift_y"),  # rounded instead of cut
        ("scale_y", lambda good: good["scale_x"], "correlation"),
    ],
)
def test_a_fault_in_a_draw_of_albumentations_2_is_caught(name, fault, caught):
    good = our_draws(CUT)
    assert broken_laws(good | {name: fault(good)}, CUT) == {caught}


@pytest.mark.parametrize("lag", LAGS)
@pytest.mark.parametrize("law", [CLASSIC, CUT])
def test_repeated_draws_are_caught(law, lag):
    source = np.arange(COUNT)
    source[lag:] -= lag * (np.random.default_rng(0).random(COUNT - lag) < 0.03)
    repeated = {name: values[source] for name, values in our_draws(law).items()}
    assert broken_laws(repeated, law, lags=LAGS) == {"serial"}


def test_a_batch_twice_is_caught_only_at_its_lag():
    """One batch in ten is the one before it."""
    row = np.arange(COUNT)
    source = row - BATCH * (row // BATCH % 10 == 9)
    repeated = {name: values[source] for name, values in our_draws(CLASSIC).items()}
    assert broken_laws(repeated, CLASSIC, lags=(1,)) == set()
    assert broken_laws(repeated, CLASSIC, lags=(1, BATCH)) == {"serial"}


def test_lawful_draws_break_a_law_as_seldom_as_alpha_says():
    """At alpha 0.1 about 5 of 50 seeds break each law; 14 lies 4 standard deviations off."""
    broken: Counter[str] = Counter()
    for seed in range(50):
        draws = sample_draws(CLASSIC, seed, 0, torch.arange(5000))
        broken.update(broken_laws({name: values.numpy() for name, values in vars(draws).items()}, CLASSIC, alpha=0.1))
    assert len(broken) > 8
    assert max(broken.values()) < 14
