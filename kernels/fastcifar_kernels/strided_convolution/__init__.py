"""A dense 3x3 convolution with stride 2 and padding 1 whose backward pass is fast, on the CPU in float32.

For output channel o and input channel c of each image:

    y[o, i, j]          = sum over c, k, l of weight[o, c, k, l] x[c, 2 i + k - 1, 2 j + l - 1]         0 outside x
    dx[c, p, q]         = sum over o, k, l of weight[o, c, k, l] grad[o, (p + 1 - k) / 2, (q + 1 - l) / 2]
                          where that is a place of the output
    dweight[o, c, k, l] = sum over images, i, j of grad[o, i, j] x[c, 2 i + k - 1, 2 j + l - 1]

The forward pass is torch's own convolution. The backward pass keeps a block of images in the cache for both gradients;
torch's, which is oneDNN's on a CPU, runs at a third to a half of the speed that it has with stride 1. Elsewhere than on
the CPU in float32 torch's convolution serves both ways.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fastcifar_kernels import backend

_LIBRARY = torch.library.Library(backend.NAMESPACE, "FRAGMENT")
_LIBRARY.define("strided_convolution(Tensor x, Tensor weight) -> Tensor", tags=(torch.Tag.pt2_compliant_tag,))
_LIBRARY.define(
    "strided_convolution_backward(Tensor grad, Tensor x, Tensor weight, bool needs_dx) -> (Tensor, Tensor)",
    tags=(torch.Tag.pt2_compliant_tag,),
)
BACKENDS = backend.choose("strided_convolution", triton=False, cuda="torch's own convolution serves")


def strided_convolution(x: Tensor, weight: Tensor) -> Tensor:
    """[N, C, H, W] -> [N, K, ceil(H / 2), ceil(W / 2)], differentiable once.

    x: in any order of dimensions. weight: [K, C, 3, 3]. Both float32 on the CPU, without autocast, for the operator
        to serve, and its result is channels_last; for all else it is torch's convolution.

    Raises:
        ValueError: a shape other than said here.
    """
    if x.dim() != 4 or min(x.shape[1:]) < 1:
        raise ValueError("x: [N, C, H, W], at least one channel and one pixel")
    if weight.shape != (len(weight), x.shape[1], 3, 3) or len(weight) < 1:
        raise ValueError("weight: [K, C, 3, 3] for x of C channels")
    serves = x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32
    if serves and BACKENDS["cpu"].used == "c++" and not torch.is_autocast_enabled("cpu"):
        return torch.ops.fastcifar_kernels.strided_convolution.default(x, weight)
    return F.conv2d(x, weight, None, 2, 1)


def _forward(x: Tensor, weight: Tensor) -> Tensor:
    pixels = x.contiguous(memory_format=torch.channels_last)
    return F.conv2d(pixels, weight, None, 2, 1).contiguous(memory_format=torch.channels_last)


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor]:
    x, weight = ctx.saved_tensors
    needs_dx = ctx.needs_input_grad[0]
    dx, dweight = torch.ops.fastcifar_kernels.strided_convolution_backward.default(grad, x, weight, needs_dx)
    return dx if needs_dx else None, dweight


_LIBRARY.impl("strided_convolution", _forward, "CPU")
torch.library.register_autograd(
    f"{backend.NAMESPACE}::strided_convolution", _backward, setup_context=_keep, lib=_LIBRARY
)


@torch.library.register_fake(f"{backend.NAMESPACE}::strided_convolution", lib=_LIBRARY)
def _fake(x: Tensor, weight: Tensor) -> Tensor:
    count, _, height, width = x.shape
    return _channels_last(x, (count, weight.shape[0], (height + 1) // 2, (width + 1) // 2))


@torch.library.register_fake(f"{backend.NAMESPACE}::strided_convolution_backward", lib=_LIBRARY)
def _fake_backward(grad: Tensor, x: Tensor, weight: Tensor, needs_dx: bool) -> tuple[Tensor, Tensor]:
    dx = _channels_last(x, x.shape) if needs_dx else x.new_empty(0)
    return dx, _channels_last(weight, weight.shape)


def _channels_last(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    count, channels, height, width = shape
    return like.new_empty((count, height, width, channels)).permute(0, 3, 1, 2)
