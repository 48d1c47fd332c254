"""Candidates for the tiles of `depthwise_pointwise`: all compute the same, and the fastest of each kernel is taken."""

import importlib.util
import os
import subprocess
import sys
from dataclasses import astuple, replace
from functools import partial
from pathlib import Path

import pytest
import torch
from depthwise_pointwise_cases import NAMES, Case, distance, expected, inputs

from fastcifar_kernels.depthwise_pointwise.shape import Shape, Tiling, default_tiling
from fastcifar_kernels.depthwise_pointwise.tune import VARIATIONS, best_tiling, candidates

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="no triton")

SHAPE = Shape(2, 6, 5, 32, 16, 1, 1)


def tried(tiling: Tiling) -> list[Tiling]:
    return [one for kernel in VARIATIONS for one in candidates(tiling, kernel)]


def test_candidates_begin_with_the_default_and_differ_in_one_kernel() -> None:
    for sizes in ((2, 6, 5, 32, 16, 1, 1), (2, 6, 5, 20, 16, 2, 1), (2, 1, 5, 96, 96, 1, 2)):
        tiling = default_tiling(Shape(*sizes))
        for kernel in VARIATIONS:
            found = candidates(tiling, kernel)
            assert found[0] == tiling
            assert len(set(found)) == len(found) > 2
            for one in found:
                assert replace(one, **{kernel: getattr(tiling, kernel)}) == tiling
                assert all(number.bit_count() == 1 for number in astuple(getattr(one, kernel))[:-1])
        assert all(one.forward.cells >= 16 <= one.pointwise_backward.cells for one in tried(tiling))  # tl.dot's least


@pytest.mark.slow
def test_all_candidates_compute_the_same(tmp_path: Path) -> None:
    cases = [Case(2, 6, 5, 32, 16, stride, statistics=True) for stride in (1, 2)]
    calls = [
        (case, inputs(case), one)
        for case in cases
        for one in dict.fromkeys(tried(default_tiling(Shape(2, 6, 5, 32, 16, case.stride, 1))))
    ]
    file = tmp_path / "calls.pt"
    torch.save(calls, file)
    script = Path(__file__).with_name("depthwise_pointwise_interpreted.py")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    subprocess.run([sys.executable, str(script), str(file)], check=True, env=environment, capture_output=True)
    for (case, given, _), found in zip(calls, torch.load(file), strict=True):
        truth = expected(case, given)
        assert {name for name in NAMES if name in truth} == truth.keys()
        assert all(distance(found[name], value) < 1e-5 for name, value in truth.items())


def test_the_fastest_of_each_kernel_is_taken() -> None:
    rounds: list[list[Tiling]] = []

    def measure(works: list[partial]) -> list[float]:
        rounds.append([work.args[0] for work in works])
        return [float("inf"), 1.0, 3.0, *[2.0] * (len(works) - 3)]

    best = best_tiling(SHAPE, torch.bfloat16, torch.device("cpu"), measure)  # pyright: ignore[reportArgumentType]
    default = default_tiling(SHAPE)
    doubled = {
        kernel: replace(getattr(default, kernel), waves=2 * getattr(default, kernel).waves) for kernel in VARIATIONS
    }
    assert best == Tiling(**doubled)
    assert [one[0] for one in rounds] == [
        default,
        replace(default, forward=doubled["forward"]),
        replace(best, depthwise_backward=default.depthwise_backward),
    ]


def test_where_none_runs_the_default_stays() -> None:
    best = best_tiling(SHAPE, torch.bfloat16, torch.device("cpu"), lambda works: [float("inf")] * len(works))
    assert best == default_tiling(SHAPE)
