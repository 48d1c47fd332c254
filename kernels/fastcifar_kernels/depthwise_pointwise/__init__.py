"""A 3x3 depthwise convolution and a 1x1 convolution in one kernel, trainable, with batch-norm folded in at both ends.

For x [N, C, H, W], depthwise weights d, pointwise weights p, and a = relu(scale x + shift), or a = x without them:

    z[n, c, h, w] = sum over i, j of  d[c, i, j] a[n, c, stride h + dilation (i - 1), stride w + dilation (j - 1)]
    y[n, k, h, w] = sum over c of  p[k, c] z[n, c, h, w]
    mean, variance = of y over n, h, w

Outside the image a is zero. z is summed in float32, rounded to the type of x for the product, and never stored: the
backward pass computes it again. With g the gradient of y, and those of mean and variance m and v, over M = N H W
numbers a channel, it starts from

    g + m / M + 2 v (y - mean) / M = g + intercept + slope y

so that a batch-norm made of mean and variance needs no pass of its own in either direction.
"""

from typing import Any

import torch
from torch import Tensor

from fastcifar_kernels import backend
from fastcifar_kernels.depthwise_pointwise import plan, reference

_LIBRARY = torch.library.Library(backend.NAMESPACE, "FRAGMENT")
_LIBRARY.define(
    "depthwise_pointwise(Tensor x, Tensor depthwise, Tensor pointwise, Tensor? scale, Tensor? shift, "
    "int stride, int dilation, bool statistics) -> (Tensor, Tensor, Tensor)",
    tags=(torch.Tag.pt2_compliant_tag,),
)
_LIBRARY.define(
    "depthwise_pointwise_backward(Tensor gradient, Tensor? y, Tensor? intercept, Tensor? slope, Tensor x, "
    "Tensor depthwise, Tensor pointwise, Tensor? scale, Tensor? shift, int stride, int dilation) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    tags=(torch.Tag.pt2_compliant_tag,),
)
BACKENDS = backend.triton_only("depthwise_pointwise", "two convolutions serve; the fused kernels are for GPUs")


def depthwise_pointwise(
    x: Tensor,
    depthwise: Tensor,
    pointwise: Tensor,
    *,
    stride: int = 1,
    dilation: int = 1,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    statistics: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """The pair of convolutions, padded by `dilation`, and the statistics of its output.

    x: [N, C, H, W], float32, bfloat16 or float16, of any strides; under autocast it is cast to autocast's type.
    depthwise: float32 [C, 1, 3, 3]. pointwise: float32 [K, C, 1, 1]. Their gradients are float32, too.
    stride, dilation: 1 or 2 each.
    scale, shift: float32 [C], both or neither: x stands for relu(scale x + shift).

    Returns:
        y [N, K, ceil(H / stride), ceil(W / stride)] in the type of x, channels_last; its mean and its biased variance,
        float32 [K], [0] unless `statistics` asks for them. All three are differentiable.

    Raises:
        ValueError: sizes, types or devices other than said here.
    """
    if torch.is_autocast_enabled(x.device.type):
        x = x.to(torch.get_autocast_dtype(x.device.type))
    _check(x, depthwise, pointwise, scale, shift, stride, dilation)
    return torch.ops.fastcifar_kernels.depthwise_pointwise.default(
        x, depthwise, pointwise, scale, shift, stride, dilation, statistics
    )


def _check(
    x: Tensor,
    depthwise: Tensor,
    pointwise: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    stride: int,
    dilation: int,
) -> None:
    if x.dim() != 4 or not x.dtype.is_floating_point:
        raise ValueError(f"x: floating-point [N, C, H, W], not {x.dtype} {list(x.shape)}")
    channels = x.shape[1]
    if depthwise.shape != (channels, 1, 3, 3):
        raise ValueError(f"depthwise: [{channels}, 1, 3, 3], not {list(depthwise.shape)}")
    if pointwise.dim() != 4 or pointwise.shape[1:] != (channels, 1, 1):
        raise ValueError(f"pointwise: [K, {channels}, 1, 1], not {list(pointwise.shape)}")
    if stride not in (1, 2) or dilation not in (1, 2):
        raise ValueError(f"stride, dilation: 1 or 2 each, not {stride}, {dilation}")
    if (scale is None) != (shift is None):
        raise ValueError("scale, shift: both or neither")
    if scale is not None and shift is not None and (scale.shape != (channels,) or shift.shape != (channels,)):
        raise ValueError(f"scale, shift: [{channels}] each, not {list(scale.shape)}, {list(shift.shape)}")
    for name, weights in (("depthwise", depthwise), ("pointwise", pointwise), ("scale", scale), ("shift", shift)):
        if weights is not None and (weights.device != x.device or weights.dtype != _weights_dtype(x)):
            expected = f"{_weights_dtype(x)} on {x.device}"
            raise ValueError(f"{name}: {expected}, not {weights.dtype} on {weights.device}")


def _weights_dtype(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)  # float64 with float64, for checks on a CPU


def _forward_cuda(x: Tensor, depthwise: Tensor, pointwise: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    tiling = plan.tiling(x, pointwise, *rest[2:4])
    if tiling is None:
        return reference.forward(x, depthwise, pointwise, *rest)
    from fastcifar_kernels.depthwise_pointwise import launch

    with torch.cuda.device(x.device):  # Triton launches on the current one
        return launch.forward(tiling, x, depthwise, pointwise, *rest)


def _backward_cuda(
    gradient: Tensor,
    y: Tensor | None,
    intercept: Tensor | None,
    slope: Tensor | None,
    x: Tensor,
    depthwise: Tensor,
    pointwise: Tensor,
    *rest: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    tensors = gradient, y, intercept, slope, x, depthwise, pointwise
    tiling = plan.tiling(x, pointwise, *rest[2:4])
    if tiling is None:
        return reference.backward(*tensors, *rest)
    from fastcifar_kernels.depthwise_pointwise import launch

    with torch.cuda.device(x.device):
        return launch.backward(tiling, *tensors, *rest)


_LIBRARY.impl("depthwise_pointwise", reference.forward, "CPU")
_LIBRARY.impl("depthwise_pointwise_backward", reference.backward, "CPU")
if BACKENDS["cuda"].used == "triton":
    _LIBRARY.impl("depthwise_pointwise", _forward_cuda, "CUDA")
    _LIBRARY.impl("depthwise_pointwise_backward", _backward_cuda, "CUDA")


@torch.library.register_fake(f"{backend.NAMESPACE}::depthwise_pointwise", lib=_LIBRARY)
def _fake(
    x: Tensor,
    depthwise: Tensor,
    pointwise: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    stride: int,
    dilation: int,
    statistics: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    height, width = ((side - 1) // stride + 1 for side in x.shape[2:])
    outputs = pointwise.shape[0]
    y = x.new_empty((x.shape[0], height, width, outputs)).permute(0, 3, 1, 2)
    mean = depthwise.new_empty(outputs if statistics else 0)
    return y, mean, torch.empty_like(mean)


@torch.library.register_fake(f"{backend.NAMESPACE}::depthwise_pointwise_backward", lib=_LIBRARY)
def _fake_backward(
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
    images, channels, height, width = x.shape
    x_gradient = x.new_empty((images, height, width, channels)).permute(0, 3, 1, 2)
    vector = depthwise.new_empty(0 if scale is None else channels)
    weights = depthwise.new_empty(depthwise.shape), pointwise.new_empty(pointwise.shape)
    return x_gradient, *weights, vector, torch.empty_like(vector)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    x, depthwise, pointwise, scale, shift, ctx.stride, ctx.dilation, ctx.statistics = inputs
    y, mean, _ = output
    ctx.save_for_backward(x, depthwise, pointwise, scale, shift, *((y, mean) if ctx.statistics else ()))


def _backward(ctx: Any, gradient: Tensor, mean_gradient: Tensor, variance_gradient: Tensor) -> tuple[Any, ...]:
    x, depthwise, pointwise, scale, shift, *outputs = ctx.saved_tensors
    y, intercept, slope = None, None, None
    if ctx.statistics:
        y, mean = outputs
        count = y.shape[0] * y.shape[2] * y.shape[3]
        slope = 2 * variance_gradient / count
        intercept = mean_gradient / count - slope * mean
    found = torch.ops.fastcifar_kernels.depthwise_pointwise_backward.default(
        gradient, y, intercept, slope, x, depthwise, pointwise, scale, shift, ctx.stride, ctx.dilation
    )
    vectors = (None, None) if scale is None else found[3:]
    return *found[:3], *vectors, None, None, None


torch.library.register_autograd(
    f"{backend.NAMESPACE}::depthwise_pointwise", _backward, setup_context=_setup_context, lib=_LIBRARY
)
