"""`host_kernels.cpp` compiled for a machine and called on numpy arrays whose every unwritten byte shows."""

import ctypes
import functools
import itertools
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from fastcifar.augment.normalisation import normalisation_constants
from fastcifar.augment.policy import AugmentPolicy, dropout_fill
from fastcifar.augment.reference import LUMA

HERE = Path(__file__).parent
KERNELS = HERE.parents[1] / "kernels" / "fastcifar_kernels"
GUARD = 64
"""Numbers before and after an output that must stay as they were."""


class Settings(ctypes.Structure):
    """AugmentSettings of include/augment.h."""

    _fields_ = (
        ("seed", ctypes.c_uint64),
        ("epoch", ctypes.c_uint32),
        ("size", ctypes.c_int32),
        *((name, ctypes.c_float) for name in ("flip", "affine", "dropout", "gray", "rotate_degrees", "scale", "shift")),
        *((name, ctypes.c_int32) for name in ("dropout_size", "by_axis", "reflect")),
        *((name, ctypes.c_float * 3) for name in ("subtract", "multiply", "hole", "gray_hole")),
    )


def settings(policy: AugmentPolicy, seed: int, epoch: int, mean: tuple, std: tuple, size: int) -> Settings:
    means, deviations = normalisation_constants(mean, std)
    subtract, multiply = np.array(means, dtype=np.float32), 1 / np.array(deviations, dtype=np.float32)
    fill = np.array(dropout_fill(mean), dtype=np.float32)
    luma = np.float32(fill @ np.array(LUMA, dtype=np.float32))
    numbers = {
        name: getattr(policy, name)
        for name in ("flip", "affine", "dropout", "gray", "rotate_degrees", "scale", "dropout_size")
    }
    return Settings(
        seed=seed,
        epoch=epoch,
        size=size,
        shift=policy.shift * 32,
        by_axis=policy.affine_law == "albumentations-2",
        reflect=policy.border == "reflect-101",
        subtract=tuple(subtract),
        multiply=tuple(multiply),
        hole=tuple((fill - subtract) * multiply),
        gray_hole=tuple((luma - subtract) * multiply),
        **numbers,
    )


@functools.cache
def library(machine: str) -> ctypes.CDLL:
    """Compiled with g++'s -march, or skipped with the reason."""
    if shutil.which("g++") is None:
        pytest.skip("no g++")
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    for level, feature in (("x86-64-v3", "avx2"), ("x86-64-v4", "avx512vl")):
        if machine == level and feature not in flags:
            pytest.skip(f"this machine has no {feature}")
    target = Path(tempfile.mkdtemp()) / f"{machine}.so"
    command = ["g++", "-std=c++17", "-O3", "-Wall", "-Wextra", "-Werror", "-Wno-psabi", "-fPIC", "-shared"]
    command += [f"-march={machine}", f"-I{KERNELS}", f"-I{KERNELS / 'include'}", "-o", str(target)]
    done = subprocess.run(
        [*command, str(HERE / "host_kernels.cpp"), str(KERNELS / "augment" / "cpu.cpp")], capture_output=True, text=True
    )
    if "-march" in done.stderr:
        pytest.skip(f"g++ knows no {machine}")
    assert done.returncode == 0, done.stderr
    loaded = ctypes.CDLL(str(target))
    assert loaded.settings_bytes() == ctypes.sizeof(Settings)
    return loaded


def run(
    machine: str, kernel: str, given: Settings, images: torch.Tensor, indices: torch.Tensor, parts: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """float32 [B, size, size, 3] and draws [B, 11] of "augment_on_cpu" or "augment_in_blocks".

    Both are NaN before; the guards on either side must be NaN after. parts: of the batch, in descending order.
    """
    count = len(indices)
    shape = (count, given.size, given.size, 3)
    numbers = np.full(2 * GUARD + int(np.prod(shape)), np.nan, dtype=np.float32)
    table = np.full(2 * GUARD + 11 * count, np.nan, dtype=np.float32)

    def pointer(array: np.ndarray, item: int = 0) -> ctypes.c_void_p:
        return ctypes.c_void_p(array.ctypes.data + item * array.itemsize)

    pixels, places = images.numpy(), indices.numpy()
    shared = ctypes.byref(given), pointer(pixels), pointer(places)
    loaded = library(machine)
    if kernel == "augment_in_blocks":
        loaded.augment_in_blocks(*shared, ctypes.c_int64(count), pointer(numbers, GUARD), pointer(table, GUARD))
    else:
        edges = np.linspace(0, count, parts + 1).astype(int)
        for begin, end in reversed(list(itertools.pairwise(edges))):
            share = ctypes.c_int64(begin), ctypes.c_int64(end)
            loaded.augment_on_cpu(*shared, *share, pointer(numbers, GUARD), 0, pointer(table, GUARD))
    for array in (numbers, table):
        assert np.isnan(array[:GUARD]).all()
        assert np.isnan(array[-GUARD:]).all()
    return numbers[GUARD:-GUARD].reshape(shape), table[GUARD:-GUARD].reshape(count, 11)
