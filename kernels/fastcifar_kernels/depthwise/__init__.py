"""A depthwise 3x3 convolution whose backward pass is fast with a dilation too, on the CPU in float32.

With padding = dilation, for each channel c of each image:

    y[i, j]       = sum over k, l of weight[c, k, l] x[i s + (k - 1) d, j s + (l - 1) d]         0 outside x
    dx[p, q]      = sum over k, l of weight[c, k, l] grad[(p - (k - 1) d) / s, (q - (l - 1) d) / s]
                    where that is a place of the output
    dweight[k, l] = sum over images, i, j of grad[i, j] x[i s + (k - 1) d, j s + (l - 1) d]

The forward pass is torch's own convolution. The backward pass reads x and grad once for both gradients; torch's, which
is oneDNN's on a CPU, has no depthwise kernel where the dilation is not 1, and is slow there. Elsewhere than on the CPU
in float32 torch's convolution serves both ways.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fastcifar_kernels import backend

_LIBRARY = torch.library.Library(backend.NAMESPACE, "FRAGMENT")
_LIBRARY.define(
    "depthwise(Tensor x, Tensor weight, int stride, int dilation) -> Tensor", tags=(torch.Tag.pt2_compliant_tag,)
)
_LIBRARY.define(
    "depthwise_backward(Tensor grad, Tensor x, Tensor weight, int stride, int dilation) -> (Tensor, Tensor)",
    tags=(torch.Tag.pt2_compliant_tag,),
)
BACKENDS = backend.choose("depthwise", triton=False, cuda="torch's own convolution serves")


def depthwise(x: Tensor, weight: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
    """[N, C, H, W] -> [N, C, ceil(H / stride), ceil(W / stride)], differentiable once.

    x: in any order of dimensions. weight: [C, 1, 3, 3]. Both float32 on the CPU, without autocast, for the operator
        to serve, and its result is channels_last; for all else it is torch's convolution.

    Raises:
        ValueError: a shape, stride or dilation other than said here.
    """
    _check(x, weight, stride, dilation)
    serves = x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32
    if serves and BACKENDS["cpu"].used == "c++" and not torch.is_autocast_enabled("cpu"):
        return torch.ops.fastcifar_kernels.depthwise.default(x, weight, stride, dilation)
    return _convolution(x, weight, stride, dilation)


def _check(x: Tensor, weight: Tensor, stride: int, dilation: int) -> None:
    if x.dim() != 4 or min(x.shape[1:]) < 1:
        raise ValueError("x: [N, C, H, W], at least one channel and one pixel")
    if weight.shape != (x.shape[1], 1, 3, 3):
        raise ValueError("weight: [C, 1, 3, 3] for x of C channels")
    if stride < 1 or dilation < 1:
        raise ValueError("stride, dilation: 1 or more")


def _convolution(x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
    return F.conv2d(x, weight, None, stride, dilation, dilation, x.shape[1])


def _forward(x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
    pixels = x.contiguous(memory_format=torch.channels_last)
    return _convolution(pixels, weight, stride, dilation).contiguous(memory_format=torch.channels_last)


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor, int, int], output: Tensor) -> None:
    x, weight, ctx.stride, ctx.dilation = inputs
    ctx.save_for_backward(x, weight)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
    x, weight = ctx.saved_tensors
    dx, dweight = torch.ops.fastcifar_kernels.depthwise_backward.default(grad, x, weight, ctx.stride, ctx.dilation)
    return dx, dweight, None, None


_LIBRARY.impl("depthwise", _forward, "CPU")
torch.library.register_autograd(f"{backend.NAMESPACE}::depthwise", _backward, setup_context=_keep, lib=_LIBRARY)


@torch.library.register_fake(f"{backend.NAMESPACE}::depthwise", lib=_LIBRARY)
def _fake(x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
    count, channels, height, width = x.shape
    shape = (count, (height - 1) // stride + 1, (width - 1) // stride + 1, channels)
    return x.new_empty(shape).permute(0, 3, 1, 2)


@torch.library.register_fake(f"{backend.NAMESPACE}::depthwise_backward", lib=_LIBRARY)
def _fake_backward(grad: Tensor, x: Tensor, weight: Tensor, stride: int, dilation: int) -> tuple[Tensor, Tensor]:
    count, channels, height, width = x.shape
    return x.new_empty((count, height, width, channels)).permute(0, 3, 1, 2), weight.new_empty(weight.shape)
