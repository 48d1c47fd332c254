"""Batch-norm in training, an addition and ReLU in one operator, on the CPU in float32.

With the mean m and the variance v of each channel over the batch's P pixels:

    y = max(0, weight (x - m) / sqrt(v + epsilon) + bias + residual)

and with g = grad where y > 0, else 0, s = weight / sqrt(v + epsilon):

    dbias = sum of g            dweight = sum of g (x - m) / sqrt(v + epsilon)            dresidual = g
    dx = s (g - dbias / P - (x - m) / (v + epsilon) * sum of g (x - m) / P)

Without a residual the maps are read or written eight times, both ways together; with torch's own operators it is
fourteen times: its batch-norm takes mean and variance one after the other, and ReLU is two passes more forward and
three backward. Elsewhere than on the CPU in float32 those serve.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fastcifar_kernels import backend

_LIBRARY = torch.library.Library(backend.NAMESPACE, "FRAGMENT")
_LIBRARY.define(
    "batch_norm_relu(Tensor x, Tensor? residual, Tensor weight, Tensor bias, float epsilon) "
    "-> (Tensor, Tensor, Tensor)",
    tags=(torch.Tag.pt2_compliant_tag,),
)
_LIBRARY.define(
    "batch_norm_relu_backward(Tensor grad, Tensor x, Tensor? y, Tensor weight, Tensor bias, Tensor mean, "
    "Tensor variance, float epsilon) -> (Tensor, Tensor, Tensor, Tensor)",
    tags=(torch.Tag.pt2_compliant_tag,),
)
BACKENDS = backend.choose("batch_norm_relu", triton=False, cuda="Inductor fuses it; eagerly cuDNN's own serves")


def serves(x: Tensor) -> bool:
    """Whether the operator takes this map: float32 on the CPU, without autocast, and the library is there."""
    on_cpu = x.device.type == "cpu" and x.dtype == torch.float32
    return on_cpu and BACKENDS["cpu"].used == "c++" and not torch.is_autocast_enabled("cpu")


def batch_norm_relu(
    x: Tensor, weight: Tensor, bias: Tensor, epsilon: float, residual: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """y [N, C, H, W], and mean and variance (of the population) [C] of x, which carry no gradient.

    x, residual: [N, C, H, W], in any order of dimensions; y is channels_last where the operator serves.
    weight, bias: [C].

    Raises:
        ValueError: a shape other than said here.
    """
    if x.dim() != 4 or min(x.shape) < 1:
        raise ValueError("x: [N, C, H, W], at least one value")
    if weight.shape != (x.shape[1],) or bias.shape != weight.shape:
        raise ValueError("weight, bias: [C] for x of C channels")
    if residual is not None and residual.shape != x.shape:
        raise ValueError("residual: of x's shape")
    if serves(x):
        return torch.ops.fastcifar_kernels.batch_norm_relu.default(x, residual, weight, bias, epsilon)
    variance, mean = torch.var_mean(x.detach(), (0, 2, 3), correction=0)
    y = F.batch_norm(x, None, None, weight, bias, training=True, eps=epsilon)
    return F.relu(y if residual is None else y + residual), mean, variance


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor | None, Tensor, Tensor, float], output: tuple[Tensor, ...]) -> None:
    x, residual, weight, bias, ctx.epsilon = inputs
    y, mean, variance = output
    ctx.mark_non_differentiable(mean, variance)
    ctx.save_for_backward(x, None if residual is None else y, weight, bias, mean, variance)


def _backward(
    ctx: Any, grad: Tensor, mean: Tensor, variance: Tensor
) -> tuple[Tensor, Tensor | None, Tensor, Tensor, None]:
    x, y, *channels = ctx.saved_tensors
    found = torch.ops.fastcifar_kernels.batch_norm_relu_backward.default(grad, x, y, *channels, ctx.epsilon)
    dx, dresidual, dweight, dbias = found
    return dx, None if y is None else dresidual, dweight, dbias, None


torch.library.register_autograd(f"{backend.NAMESPACE}::batch_norm_relu", _backward, setup_context=_keep, lib=_LIBRARY)


@torch.library.register_fake(f"{backend.NAMESPACE}::batch_norm_relu", lib=_LIBRARY)
def _fake(
    x: Tensor, residual: Tensor | None, weight: Tensor, bias: Tensor, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    return _channels_last(x), torch.empty_like(weight), torch.empty_like(weight)


@torch.library.register_fake(f"{backend.NAMESPACE}::batch_norm_relu_backward", lib=_LIBRARY)
def _fake_backward(
    grad: Tensor,
    x: Tensor,
    y: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    epsilon: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dresidual = x.new_empty(0) if y is None else _channels_last(x)
    return _channels_last(x), dresidual, torch.empty_like(weight), torch.empty_like(bias)


def _channels_last(x: Tensor) -> Tensor:
    count, channels, height, width = x.shape
    return x.new_empty((count, height, width, channels)).permute(0, 3, 1, 2)
