"""Run with TRITON_INTERPRET=1: the Triton kernels of `depthwise_pointwise` on the CPU, for a test to judge.

Usage: depthwise_pointwise_interpreted.py FILE, with a torch file of [(case, inputs, tiling)]; it gets the results.
"""

import sys
from typing import Any

import torch
from depthwise_pointwise_cases import NAMES, Case
from torch import Tensor

from fastcifar_kernels.depthwise_pointwise import launch
from fastcifar_kernels.depthwise_pointwise.shape import Tiling


def outcome(case: Case, given: dict[str, Tensor], tiling: Tiling) -> dict[str, Tensor]:
    """What the kernels make of a case, results and gradients."""
    weights = given["depthwise"], given["pointwise"], given.get("scale"), given.get("shift")
    call: tuple[Any, ...] = (given["x"], *weights, case.stride, case.dilation)
    y, mean, variance = launch.forward(tiling, *call, statistics=case.statistics)
    around: tuple[Any, ...] = (None, None, None)
    if case.statistics:
        count = y.numel() // case.outputs
        slope = given["variance_gradient"] * (2 / count)
        around = y, given["mean_gradient"] / count - slope * mean, slope
    gradients = launch.backward(tiling, given["y_gradient"], *around, *call)
    return dict(zip(NAMES, (y, mean, variance, *gradients), strict=True))


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)  # and so torch.empty is full of NaN
    calls = torch.load(sys.argv[1], weights_only=False)
    torch.save([outcome(*call) for call in calls], sys.argv[1])
