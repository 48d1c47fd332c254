"""The laws of a policy's draws as statistical tests: binomial, Kolmogorov-Smirnov, chi-square and correlations."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from fastcifar.augment.policy import IMAGE_SIZE, AugmentPolicy

Draws = dict[str, np.ndarray]
"""The fields of `AugmentDraws` by name, each [N]. Of an image that rests the motion is the identity, and of one
without a hole the corner means nothing."""

COINS = ("flip", "affine", "dropout", "gray")
MOTION = ("angle_degrees", "scale_x", "scale_y", "shift_x", "shift_y")
CORNER = ("hole_x", "hole_y")
AT_REST = {"angle_degrees": 0, "scale_x": 1, "scale_y": 1, "shift_x": 0, "shift_y": 0}
CONSTANT = 1e-9
"""Variance, of draws with variance 1 as a whole, below which those picked out are all the same."""


def broken_laws(draws: Draws, policy: AugmentPolicy, alpha: float = 1e-3, lags: Sequence[int] = (1,)) -> set[str]:
    """The laws, as `p_values` names them, that are rejected at `alpha`: a good generator breaks each with that chance.

    Draws at a fixed seed give the same answer always, so a set that once was empty stays so.
    """
    return {name for name, p_value in p_values(draws, policy, lags).items() if not p_value >= alpha}


def p_values(draws: Draws, policy: AugmentPolicy, lags: Sequence[int] = (1,)) -> dict[str, float]:
    """The chance of draws as far from their law as these; 0 where the law rules them out.

    Of each coin and each part of the motion; "rest": images without the affine do not move; "hole": both
    coordinates of the corner at once; "correlation": any two draws of an image; "serial": any draw of an image and
    any of the image `lag` places after it.

    policy: with probabilities above 0 and ranges that are not empty.
    lags: 1 for neighbours, the batch size for the same place in the next batch.
    """
    moved, holed = draws["affine"], draws["dropout"]
    ranges = {"angle_degrees": (0.0, policy.rotate_degrees), "scale_x": (1.0, policy.scale)}
    pixels = IMAGE_SIZE * policy.shift
    found: dict[str, float] = {}
    if policy.affine_law == "classic":
        ranges |= {"shift_x": (0.0, pixels), "shift_y": (0.0, pixels)}
        found["scale_y"] = float(np.array_equal(draws["scale_y"], draws["scale_x"]))
    else:
        ranges["scale_y"] = ranges["scale_x"]
        found |= {name: _cut_uniform(draws[name][moved], pixels) for name in ("shift_x", "shift_y")}
    found |= {name: _uniform(draws[name][moved], *ranges[name]) for name in ranges}
    for coin in COINS:
        found[coin] = float(stats.binomtest(int(draws[coin].sum()), len(moved), getattr(policy, coin)).pvalue)
    found["rest"] = float(all((draws[name][~moved] == place).all() for name, place in AT_REST.items()))
    found["hole"] = _corners(np.stack([draws[name][holed] for name in CORNER]), IMAGE_SIZE - policy.dropout_size + 1)

    names = [name for name in (*COINS, *MOTION, *CORNER) if name != "scale_y" or policy.affine_law != "classic"]
    values, meant = _standardised(draws, names)
    pairs = np.triu_indices(len(names), 1)
    found["correlation"] = _bonferroni(_independence(values, meant, values, meant)[pairs])
    following = [_independence(values[:, :-lag], meant[:, :-lag], values[:, lag:], meant[:, lag:]) for lag in lags]
    found["serial"] = _bonferroni(np.stack(following))
    return found


def _uniform(values: np.ndarray, middle: float, reach: float) -> float:
    """Uniform on middle - reach .. middle + reach."""
    if (np.abs(values - middle) > reach * (1 + 1e-5)).any():  # room for float32
        return 0.0
    return stats.kstest(values.astype(np.float64), "uniform", args=(middle - reach, 2 * reach)).pvalue


def _cut_uniform(values: np.ndarray, pixels: float) -> float:
    """Uniform on -pixels .. pixels and then cut towards 0: of 2 pixels -1, 0 and 1 remain, with 1/4, 1/2 and 1/4."""
    farthest = math.ceil(pixels) - 1
    places = np.arange(-farthest, farthest + 1)
    lengths = np.minimum(np.abs(places) + 1, pixels) - np.abs(places)
    lengths[farthest] *= 2  # 0 is reached from both sides
    return _counted(values, places, lengths / lengths.sum())


def _corners(corners: np.ndarray, places: int) -> float:
    """Uniform over the places x places whole coordinates, from 0 on; corners: [2, N]."""
    pairs = np.array(list(itertools.product(range(places), repeat=2)))
    whole = np.isin(corners, np.arange(places)).all(axis=0)
    cells = np.where(whole, corners[0] * places + corners[1], -1)
    return _counted(cells, np.arange(len(pairs)), np.full(len(pairs), 1 / len(pairs)))


def _counted(values: np.ndarray, places: np.ndarray, shares: np.ndarray) -> float:
    counts = np.array([(values == place).sum() for place in places])
    if counts.sum() < len(values):
        return 0.0
    return stats.chisquare(counts, len(values) * shares).pvalue


def _standardised(draws: Draws, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Draws with mean 0 and variance 1 where they mean something, else 0; and where they do: float64 [names, N]."""
    meant = np.ones((len(names), len(draws["affine"])))
    values = np.stack([draws[name] for name in names]).astype(np.float64)
    for row, name in enumerate(names):
        if name in (*MOTION, *CORNER):
            meant[row] = draws["affine" if name in MOTION else "dropout"]
        known = values[row, meant[row] > 0]
        values[row] = (values[row] - known.mean()) * meant[row] / (known.std() or 1)
    return values, meant


def _independence(first: np.ndarray, first_meant: np.ndarray, second: np.ndarray, second_meant: np.ndarray):
    """p-value of Pearson's correlation of each row of `first` with each of `second`, over the images where both mean
    something; nan where one of them is constant there, as a coin is where the draw that it decides on is meant.

    The correlation of n independent pairs is close to normal with variance 1/n.
    """
    count = first_meant @ second_meant.T
    first_mean, second_mean = first @ second_meant.T / count, first_meant @ second.T / count
    variance = (first**2 @ second_meant.T / count - first_mean**2) * (
        first_meant @ (second**2).T / count - second_mean**2
    )
    covariance = first @ second.T / count - first_mean * second_mean
    correlation = covariance / np.sqrt(np.where(variance > CONSTANT, variance, np.nan))
    return 2 * stats.norm.sf(np.abs(correlation) * np.sqrt(count))


def _bonferroni(p_values: np.ndarray) -> float:
    """The smallest of several p-values as that of one test: their number times as large."""
    return min(1.0, float(np.nanmin(p_values)) * int(np.isfinite(p_values).sum()))
