"""The fused depthwise + pointwise block beside cuDNN's convolutions as Inductor compiles them; a GPU's work only.

Each row is a shape that the accuracy network's layers meet at 32 pixels, batch 1,024, in bfloat16. GB/s are the bytes
that the fused kernels must move (kernels/README.md) over their time; the share is that of a plain copy, measured here.
Maps of 8 x 8 and 4 x 4 stay in an H200's L2 cache.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fastcifar.gpu_timing import gpu_seconds
from fastcifar.model.layers import DepthwiseSeparable
from fastcifar.tuning import PlainSeparable
from fastcifar_kernels.depthwise_pointwise import plan
from fastcifar_kernels.depthwise_pointwise.shape import Shape, default_tiling

pytestmark = pytest.mark.gpu
SHAPES = [
    Shape(1024, 32, 32, 32, 32, 1, 1),
    Shape(1024, 32, 32, 32, 64, 2, 1),
    Shape(1024, 32, 32, 64, 128, 1, 1),
    Shape(1024, 16, 16, 64, 64, 1, 1),
    Shape(1024, 16, 16, 64, 128, 2, 1),
    Shape(1024, 8, 8, 128, 128, 1, 1),
    Shape(1024, 4, 4, 128, 128, 1, 2),
]


@pytest.fixture(params=SHAPES, ids=lambda shape: shape.key)
def shape(request: pytest.FixtureRequest) -> Shape:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    torch.backends.cudnn.benchmark = True  # as in training
    torch.compiler.reset()
    return request.param


def maps(shape: Shape, channels: int, height: int, width: int) -> Tensor:
    size = (shape.images, channels, height, width)
    return torch.randn(size, dtype=torch.bfloat16, device="cuda").contiguous(memory_format=torch.channels_last)


def record(benchmark: Any, subjects: dict[str, Callable[[], object]], moved: int, copied: Tensor) -> None:
    """Times of all, taken in turn; `moved`: bytes of the one named "fused"."""
    target = torch.empty_like(copied)
    times = gpu_seconds([*subjects.values(), lambda: target.copy_(copied)])
    seconds = dict(zip([*subjects, "copy"], times, strict=True))
    rate, copy_rate = moved / seconds["fused"], 2 * copied.nbytes / seconds["copy"]
    benchmark.extra_info["microseconds"] = {name: round(value * 1e6, 1) for name, value in seconds.items()}
    benchmark.extra_info["ratio"] = round(seconds["plain"] / seconds["fused"], 2)
    benchmark.extra_info["GB/s"] = round(rate / 1e9)
    benchmark.extra_info["share of a copy"] = round(rate / copy_rate, 2)
    benchmark.pedantic(subjects["fused"], rounds=1)
    print(benchmark.group, benchmark.extra_info)


def bench_forward(benchmark: Any, shape: Shape) -> None:
    """The two convolutions alone, without statistics."""
    from fastcifar_kernels.depthwise_pointwise import launch

    benchmark.group = f"depthwise + pointwise forward: {shape.key}"
    x = maps(shape, shape.channels, shape.height, shape.width)
    depthwise = torch.randn(shape.channels, 1, 3, 3, device="cuda")
    pointwise = torch.randn(shape.outputs, shape.channels, 1, 1, device="cuda")
    around = (None, shape.stride, shape.dilation, shape.dilation, shape.channels)

    def plain() -> Tensor:
        return F.conv2d(F.conv2d(x, depthwise.bfloat16(), *around), pointwise.bfloat16())

    def fused() -> object:
        return launch.forward(tiling, x, depthwise, pointwise, None, None, shape.stride, shape.dilation, False)

    tiling = default_tiling(shape)
    outputs = shape.images * shape.out_height * shape.out_width * shape.outputs
    record(benchmark, {"plain": torch.compile(plain, dynamic=False), "fused": fused}, 2 * (x.numel() + outputs), x)


def bench_backward(benchmark: Any, shape: Shape) -> None:
    """The gradients of the two convolutions alone."""
    from fastcifar_kernels.depthwise_pointwise import launch

    benchmark.group = f"depthwise + pointwise backward: {shape.key}"
    x = maps(shape, shape.channels, shape.height, shape.width)
    gradient = maps(shape, shape.outputs, shape.out_height, shape.out_width)
    depthwise = torch.randn(shape.channels, 1, 3, 3, device="cuda")
    pointwise = torch.randn(shape.outputs, shape.channels, 1, 1, device="cuda")
    around = (None, [shape.stride] * 2, [shape.dilation] * 2, [shape.dilation] * 2, False, [0, 0], shape.channels)
    wanted = [True, True, False]
    z = F.conv2d(x, depthwise.bfloat16(), None, shape.stride, shape.dilation, shape.dilation, shape.channels)
    backward = torch.ops.aten.convolution_backward

    def plain() -> object:
        at_once = (None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, wanted)
        z_gradient, *_ = found = backward(gradient, z, pointwise.bfloat16(), *at_once)
        return found, backward(z_gradient, x, depthwise.bfloat16(), *around, wanted)

    def fused() -> object:
        call = x, depthwise, pointwise, None, None, shape.stride, shape.dilation
        return launch.backward(tiling, gradient, None, None, None, *call)

    tiling = default_tiling(shape)
    moved = 2 * (3 * x.numel() + 2 * z.numel() + gradient.numel())
    record(benchmark, {"plain": plain, "fused": fused}, moved, x)


def bench_block(benchmark: Any, shape: Shape) -> None:
    """The layer in training, forward and backward, with batch-norm and ReLU, compiled, with default tiles."""
    benchmark.group = f"depthwise-separable layer in training: {shape.key}"
    x = maps(shape, shape.channels, shape.height, shape.width).requires_grad_()
    gradient = maps(shape, shape.outputs, shape.out_height, shape.out_width)

    def step(kind: type[DepthwiseSeparable]) -> Callable[[], object]:
        layer = kind(shape.channels, shape.outputs, shape.stride, shape.dilation).cuda()
        compiled = torch.compile(layer.to(memory_format=torch.channels_last), dynamic=False)  # pyright: ignore[reportCallIssue]

        def run() -> object:
            with torch.autocast("cuda", torch.bfloat16):
                y = compiled(x)
            return torch.autograd.grad(y, [x, *layer.parameters()], gradient)

        return run

    between = shape.images * shape.out_height * shape.out_width * shape.channels
    moved = 2 * (4 * x.numel() + 2 * between + 8 * gradient.numel())
    with plan.on_trial(shape, torch.bfloat16, default_tiling(shape)):
        subjects = {"plain": step(PlainSeparable), "fused": step(DepthwiseSeparable)}
        record(benchmark, subjects, moved, x.detach())
