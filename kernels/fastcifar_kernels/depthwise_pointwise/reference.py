"""The operator in plain torch, for CPU tensors and for what the kernels do not take: two convolutions."""

import torch
import torch.nn.functional as F
from torch import Tensor


def forward(
    x: Tensor,
    depthwise: Tensor,
    pointwise: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    stride: int,
    dilation: int,
    statistics: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """y, its mean and its variance; see `depthwise_pointwise`."""
    z = _depthwise(_normalised(x, scale, shift), depthwise, stride, dilation)
    y = F.conv2d(z, pointwise.to(x.dtype)).contiguous(memory_format=torch.channels_last)
    precise = torch.promote_types(x.dtype, torch.float32)
    if not statistics:
        return y, y.new_empty(0, dtype=precise), y.new_empty(0, dtype=precise)
    variance, mean = torch.var_mean(y.to(precise), dim=(0, 2, 3), correction=0)
    return y, mean, variance


def backward(
    gradient: Tensor,
    y: Tensor | None,
    intercept: Tensor | None,
    slope: Tensor | None,
    x: Tensor,
    depthwise: Tensor,
    pointwise: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    stride: int,
    dilation: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, depthwise, pointwise, scale and shift, where `gradient` is that of y.

    intercept, slope: float [K]; what flows through y's mean and variance: intercept + slope y.
    """
    if y is not None and intercept is not None and slope is not None:
        gradient = (gradient + _by_channel(intercept) + _by_channel(slope) * y).to(x.dtype)
    activated = _normalised(x, scale, shift)
    z = _depthwise(activated, depthwise, stride, dilation)
    pointwise_setting = (None, (1, 1), (0, 0), (1, 1), False, (0, 0), 1, (True, True, False))
    z_gradient, pointwise_gradient, _ = torch.ops.aten.convolution_backward(
        gradient, z, pointwise.to(x.dtype), *pointwise_setting
    )
    around = (dilation, dilation)
    depthwise_setting = (None, (stride, stride), around, around, False, (0, 0), x.shape[1], (True, True, False))
    x_gradient, depthwise_gradient, _ = torch.ops.aten.convolution_backward(
        z_gradient, activated, depthwise.to(x.dtype), *depthwise_setting
    )
    if scale is None:
        scale_gradient, shift_gradient = x.new_empty(0, dtype=depthwise.dtype), x.new_empty(0, dtype=depthwise.dtype)
    else:
        passed = torch.where(activated > 0, x_gradient, 0).to(scale.dtype)
        scale_gradient, shift_gradient = (passed * x).sum((0, 2, 3)), passed.sum((0, 2, 3))
        x_gradient = (passed * _by_channel(scale)).to(x.dtype)
    return (
        x_gradient.contiguous(memory_format=torch.channels_last),
        depthwise_gradient.to(depthwise.dtype),
        pointwise_gradient.to(pointwise.dtype),
        scale_gradient,
        shift_gradient,
    )


def _normalised(x: Tensor, scale: Tensor | None, shift: Tensor | None) -> Tensor:
    if scale is None or shift is None:
        return x
    return F.relu(x * _by_channel(scale) + _by_channel(shift)).to(x.dtype)


def _depthwise(x: Tensor, weights: Tensor, stride: int, dilation: int) -> Tensor:
    return F.conv2d(x, weights.to(x.dtype), None, stride, dilation, dilation, x.shape[1])


def _by_channel(values: Tensor) -> Tensor:
    return values[:, None, None]
