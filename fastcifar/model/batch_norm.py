"""What a batch-norm keeps of a batch, and its training step in one operator with the ReLU behind it."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from fastcifar_kernels.batch_norm_relu import batch_norm_relu, serves


class Moments(NamedTuple):
    """Mean and biased variance of a map's channels, float32 [C]."""

    mean: Tensor
    variance: Tensor


@torch.no_grad()
def take_note(norm: nn.BatchNorm2d, moments: Moments, count: int) -> None:
    """Move the running statistics as `norm` itself would in training; `count`: values of each channel."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    assert norm.momentum is not None
    norm.running_mean.lerp_(moments.mean, norm.momentum)
    norm.running_var.lerp_(moments.variance * (count / max(1, count - 1)), norm.momentum)
    norm.num_batches_tracked.add_(1)


def serves_training(norm: nn.BatchNorm2d, y: Tensor) -> bool:
    """Whether `normalised_relu` is for this batch: in eager training on a CPU. Inductor fuses by itself."""
    return norm.training and serves(y) and not torch.compiler.is_compiling()


def normalised_relu(norm: nn.BatchNorm2d, y: Tensor, residual: Tensor | None) -> Tensor:
    """relu(norm(y) + residual) in training, [B, C, H, W] channels_last."""
    result, *moments = batch_norm_relu(y, norm.weight, norm.bias, norm.eps, residual)
    take_note(norm, Moments(*moments), y.numel() // y.shape[1])
    return result
