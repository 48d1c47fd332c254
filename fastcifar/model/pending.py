"""Batch-norm and ReLU that are put off until a fused kernel applies them to what it loads."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastcifar.model.batch_norm import Moments, take_note


class Pending(NamedTuple):
    """relu(scale y + shift), not computed yet: y [B, C, H, W]; scale and shift, float32 [C], are the batch-norm."""

    y: Tensor
    scale: Tensor
    shift: Tensor

    def computed(self, residual: Tensor | None = None) -> Tensor:
        """The map itself, [B, C, H, W] in the type of y; `residual` is added before the ReLU."""
        value = self.y * self.scale[:, None, None] + self.shift[:, None, None]
        return F.relu(value if residual is None else value + residual).to(self.y.dtype)


def pending(y: Tensor, norm: nn.BatchNorm2d, moments: Moments | None) -> Pending:
    """`norm` on y and the ReLU behind it, put off; in training it takes note of the moments as `norm` itself would.

    moments: of y, where a kernel has them already; in evaluation the running ones serve.
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    if not norm.training:
        mean, variance = norm.running_mean, norm.running_var
    else:
        moments = moments or _moments(y)
        take_note(norm, moments, y.numel() // y.shape[1])
        mean, variance = moments
    scale = norm.weight * torch.rsqrt(variance + norm.eps)
    return Pending(y, scale, norm.bias - mean * scale)


def _moments(y: Tensor) -> Moments:
    variance, mean = torch.var_mean(y.float(), dim=(0, 2, 3), correction=0)
    return Moments(mean, variance)
