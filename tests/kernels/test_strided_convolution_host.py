"""The raw C++ of `strided_convolution` compiled here for every level of x86-64: each has tiles of its own."""

import ctypes

import host_library
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from operator_checks import assert_near
from torch import Tensor

GUARD = 64
"""Floats before and after every tensor that must stay NaN."""


class Guarded:
    """The values of a map [N, C, H, W] in the order N, H, W, C, amid NaN."""

    def __init__(self, values: Tensor) -> None:
        self.shape = values.permute(0, 2, 3, 1).shape
        self.memory = np.full(2 * GUARD + values.numel(), np.nan, dtype=np.float32)
        self.memory[GUARD:-GUARD] = values.permute(0, 2, 3, 1).reshape(-1).numpy()
        self.pointer = ctypes.c_void_p(self.memory.ctypes.data + GUARD * self.memory.itemsize)

    def values(self) -> Tensor:
        """As they are now; nothing may have been written beside them."""
        assert np.isnan(self.memory[:GUARD]).all()
        assert np.isnan(self.memory[-GUARD:]).all()
        return torch.from_numpy(self.memory[GUARD:-GUARD].reshape(self.shape)).permute(0, 3, 1, 2)


@pytest.mark.parametrize("machine", host_library.MACHINES)
@pytest.mark.parametrize(
    ("images", "inputs", "outputs", "height", "width"),
    [(1, 1, 1, 1, 1), (3, 5, 7, 4, 5), (20, 24, 32, 9, 8), (17, 48, 64, 6, 6), (2, 70, 10, 3, 7), (40, 33, 9, 5, 2)],
)
def test_both_gradients_equal_float64(machine, images, inputs, outputs, height, width):
    torch.manual_seed(inputs)
    x, weight = torch.randn(images, inputs, height, width), torch.randn(outputs, inputs, 3, 3)
    wide_x, wide_weight = x.double().requires_grad_(), weight.double().requires_grad_()
    y = F.conv2d(wide_x, wide_weight, None, 2, 1)
    grad = torch.randn(y.shape)
    wanted = torch.autograd.grad(y, (wide_x, wide_weight), grad.double())
    given = [Guarded(one) for one in (grad, x, weight)]
    found = [Guarded(torch.full_like(one, torch.nan)) for one in (x, weight)]
    sizes = (ctypes.c_int64(size) for size in (images, inputs, height, width, outputs))
    loaded = host_library.library(machine, "strided_convolution", "strided_convolution_host.cpp")
    loaded.strided_on_cpu(*sizes, *(one.pointer for one in (*given, *found)))
    for one, expected in zip(found, wanted, strict=True):
        assert_near(one.values(), expected)
