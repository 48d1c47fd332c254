"""Calls of `depthwise_pointwise` with random inputs and upstream gradients, and what float64 says of them."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Case:
    """Sizes and settings of one call; `normalise`: with scale and shift."""

    images: int
    height: int
    width: int
    channels: int
    outputs: int
    stride: int = 1
    dilation: int = 1
    normalise: bool = False
    statistics: bool = False
    dtype: torch.dtype = torch.float32
    seed: int = 0


NAMES = ("y", "mean", "variance", "x", "depthwise", "pointwise", "scale", "shift")
"""Of what `expected` and `outcome` return: the results, then the gradients."""


def inputs(case: Case) -> dict[str, Tensor]:
    """x channels_last between NaN, so that a stray read shows; weights, factors and upstream gradients."""
    generator = torch.Generator().manual_seed(case.seed)

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=generator)

    n, c, k = case.images, case.channels, case.outputs
    out_size = (n, k, (case.height - 1) // case.stride + 1, (case.width - 1) // case.stride + 1)
    x = between_nan(normal(n, case.height, case.width, c).to(case.dtype)).permute(0, 3, 1, 2)
    found = {"x": x, "depthwise": normal(c, 1, 3, 3) / 3, "pointwise": normal(k, c, 1, 1) / c**0.5}
    if case.normalise:
        found |= {"scale": normal(c), "shift": normal(c)}
    found["y_gradient"] = normal(*out_size).to(case.dtype)
    if case.statistics:
        found |= {"mean_gradient": normal(k) * 4, "variance_gradient": normal(k) * 4}
    return found


def between_nan(values: Tensor) -> Tensor:
    """The same values in the middle of a buffer of NaN, as well aligned as one of their own."""
    margin = 256
    buffer = torch.full((values.numel() + 2 * margin,), torch.nan, dtype=values.dtype)
    buffer[margin : margin + values.numel()] = values.flatten()
    return buffer[margin : margin + values.numel()].view(values.shape)


def plain(case: Case, given: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Results and gradients of two convolutions, batch-norm's statistics and autograd, computed in `dtype`."""
    leaves = {name: given[name].detach().to(dtype).requires_grad_() for name in NAMES[3:] if name in given}
    activated = leaves["x"]
    if case.normalise:
        activated = F.relu(activated * leaves["scale"][:, None, None] + leaves["shift"][:, None, None])
    around, channels = case.dilation, case.channels
    z = F.conv2d(activated, leaves["depthwise"], None, case.stride, around, around, channels)
    y = F.conv2d(z, leaves["pointwise"])
    wide = y.double() if dtype != torch.float64 else y
    variance, mean = torch.var_mean(wide, dim=(0, 2, 3), correction=0)
    loss = (y * given["y_gradient"].to(dtype)).sum()
    if case.statistics:
        loss = loss + (mean * given["mean_gradient"]).sum() + (variance * given["variance_gradient"]).sum()
    loss.backward()
    found = {"y": y, **({"mean": mean, "variance": variance} if case.statistics else {})}
    gradients = {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
    return {name: value.detach().double() for name, value in (found | gradients).items()}


def expected(case: Case, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """In float64."""
    return plain(case, given, torch.float64)


def distance(found: Tensor, reference: Tensor) -> float:
    """Largest difference over the largest value."""
    return ((found.double() - reference).abs().max() / reference.abs().max()).item()
