"""`host_kernels.cpp` compiled for a machine and called on numpy arrays whose every unwritten byte shows."""

import ctypes
import itertools

import host_library
import numpy as np
import torch

from fastcifar.augment.normalisation import normalisation_constants
from fastcifar.augment.policy import AugmentPolicy, dropout_fill
from fastcifar.augment.reference import LUMA

GUARD = 64
"""Numbers before and after an output that must stay as they were."""


class Settings(ctypes.Structure):
    """AugmentSettings of include/augment.h."""

    _fields_ = (
        ("seed", ctypes.c_uint64),
        ("size", ctypes.c_int32),
        *((name, ctypes.c_float) for name in ("flip", "affine", "dropout", "gray", "rotate_degrees", "scale", "shift")),
        *((name, ctypes.c_int32) for name in ("dropout_size", "by_axis", "reflect")),
        *((name, ctypes.c_float * 3) for name in ("subtract", "multiply", "hole", "gray_hole")),
    )


def settings(policy: AugmentPolicy, seed: int, mean: tuple, std: tuple, size: int) -> Settings:
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


def library(machine: str) -> ctypes.CDLL:
    loaded = host_library.library(machine, "augment", "host_kernels.cpp")
    assert loaded.settings_bytes() == ctypes.sizeof(Settings)
    return loaded


def run(
    machine: str, kernel: str, given: Settings, epoch: int, images: torch.Tensor, indices: torch.Tensor, parts: int = 1
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
    shared = ctypes.byref(given), ctypes.c_uint32(epoch), pointer(pixels), pointer(places)
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
