"""`depthwise_pointwise` in Triton's interpreter against float64: results, and gradients of random upstream ones."""

import dataclasses
import importlib.util
import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from depthwise_pointwise_cases import NAMES, Case, distance, expected, inputs, plain
from torch import Tensor

from fastcifar_kernels.depthwise_pointwise.shape import Shape, Tiles, Tiling, default_tiling

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="no triton"),
]

SIZES = [(2, 5, 6, 7, 5), (3, 7, 4, 24, 40), (1, 9, 3, 40, 16), (2, 1, 2, 3, 17)]
"""Images, height, width, channels, outputs: odd, and not multiples of a tile."""
GEOMETRIES = list(itertools.product((1, 2), (1, 2)))


def cases(dtype: torch.dtype) -> list[Case]:
    """Strides x dilations x sizes, with and without the normalisation before and the statistics behind."""
    found = []
    for number, (size, (stride, dilation)) in enumerate(itertools.product(SIZES, GEOMETRIES)):
        # Each pair of switches meets each stride and dilation.
        switches = (number + number // 4) % 4
        found.append(Case(*size, stride, dilation, switches % 2 == 0, switches < 2, dtype, number))
    return found


def tiling(case: Case) -> Tiling:
    shape = Shape(case.images, case.height, case.width, case.channels, case.outputs, case.stride, case.dilation)
    return default_tiling(shape)


def interpreted(calls: list[tuple[Case, dict[str, Tensor], Tiling]], folder: Path) -> list[dict[str, Tensor]]:
    """Results of the calls, in a process of its own: the interpreter replaces Triton's functions for good."""
    file = folder / "calls.pt"
    torch.save(calls, file)
    script = Path(__file__).with_name("depthwise_pointwise_interpreted.py")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, str(script), str(file)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return torch.load(file)


@pytest.mark.parametrize("normalise", [False, True], ids=["plain", "normalised"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_results_and_gradients(dtype, normalise, tmp_path):
    """float32 within 1e-6 of float64; narrow types on average within twice the error of plain torch in that type."""
    calls = [(case, inputs(case), tiling(case)) for case in cases(dtype) if case.normalise == normalise]
    errors: dict[str, list[tuple[float, float]]] = {}
    for (case, given, _), found in zip(calls, interpreted(calls, tmp_path), strict=True):
        right = expected(case, given)
        rough = plain(case, given, dtype)
        for name, value in right.items():
            assert found[name].dtype == (dtype if name in ("x", "y") else torch.float32)
            error, rough_error = distance(found[name], value), distance(rough[name], value)
            errors.setdefault(name, []).append((error, rough_error))
            assert error <= (1e-6 if dtype == torch.float32 else 8 * max(rough_error, torch.finfo(dtype).eps)), case
        for name in {"mean", "variance", "scale", "shift"} - right.keys():
            assert found[name].shape == (0,), (case, name)
        assert found["y"].is_contiguous(memory_format=torch.channels_last)
    if dtype != torch.float32:
        for name, pairs in errors.items():
            ours, theirs = (sum(column) for column in zip(*pairs, strict=True))
            assert ours <= 2 * theirs, name


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Case, dict[str, Tensor], dict[str, Tensor]]]:
    """Out of the ordinary: (case, inputs, results) by name."""
    case = Case(2, 5, 6, 24, 20, normalise=True, statistics=True)
    none, down = Case(0, 4, 4, 8, 8), dataclasses.replace(case, stride=2)
    given = inputs(case)
    crooked = {
        name: given[name].transpose(-1, -2).contiguous().transpose(-1, -2) for name in ("y_gradient", "depthwise")
    }
    crooked["x"] = given["x"].contiguous()
    crooked["pointwise"] = given["pointwise"][:, :, 0, 0].t().contiguous().t()[:, :, None, None]
    crooked["scale"] = torch.stack([given["scale"], given["shift"]], dim=1)[:, 0]
    broken = inputs(case)
    broken["x"][0, 3, 2, 2] = torch.nan
    single, wide = Tiles(1, 1, 16, 16, 4, 1), Tiles(2, 1, 32, 32, 4, 3)
    calls = {
        "straight": (case, given, tiling(case)),
        "crooked": (case, given | crooked, tiling(case)),
        "none": (none, inputs(none), tiling(none)),
        "nan": (case, broken, tiling(case)),
        "tiles 1": (case, given, Tiling(single, wide, single)),
        "tiles 2": (case, given, Tiling(wide, single, Tiles(2, 2, 16, 16, 4, 1))),
        "tiles 3": (case, given, Tiling(wide, wide, Tiles(1, 2, 16, 32, 4, 2))),
        "tiles 4": (down, inputs(down), Tiling(single, single, Tiles(2, 2, 16, 16, 4, 1))),
    }
    results = interpreted(list(calls.values()), tmp_path_factory.mktemp("odd"))
    return {name: (call[0], call[1], found) for (name, call), found in zip(calls.items(), results, strict=True)}


@pytest.mark.parametrize("name", ["tiles 1", "tiles 2", "tiles 3", "tiles 4"])
def test_every_tiling_gives_the_same(odd, name):
    """One row or two, one column or two, other blocks: a tuned tiling cannot change what is computed."""
    case, given, found = odd[name]
    for name, value in expected(case, given).items():
        assert distance(found[name], value) <= 1e-6, name


def test_inputs_of_any_strides(odd):
    straight, crooked = odd["straight"][2], odd["crooked"][2]
    for name in NAMES:
        assert torch.equal(straight[name], crooked[name]), name


def test_a_batch_of_none(odd):
    found = odd["none"][2]
    assert found["y"].shape == (0, 8, 4, 4)
    assert found["x"].shape == (0, 8, 4, 4)
    assert not found["depthwise"].any()
    assert not found["pointwise"].any()


def test_nan_is_not_hidden_by_the_relu(odd):
    found = odd["nan"][2]
    assert found["y"][0, :, 2, 2].isnan().all()
    assert not found["y"][0, :, 0, 0].isnan().any()
    assert found["mean"].isnan().all()
