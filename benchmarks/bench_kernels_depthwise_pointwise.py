"""The fused depthwise + pointwise block beside cuDNN's convolutions as Inductor compiles them; a GPU's work only.

Each group is a shape that the accuracy network's layers meet at 32 pixels, batch 1,024, in bfloat16. The bytes are
those that the fused kernels must move (kernels/README.md). Maps of 8 x 8 and 4 x 4 stay in an H200's L2 cache.
"""

from collections.abc import Callable, Mapping

import pytest
import torch
import torch.nn.functional as F
from measure import Measure, agree
from needs import need_gpu
from record import Work
from torch import Tensor

from fastcifar.gpu_timing import captured
from fastcifar.model.layers import DepthwiseSeparable
from fastcifar.tuning import PlainSeparable
from fastcifar_kernels.depthwise_pointwise import plan
from fastcifar_kernels.depthwise_pointwise.shape import Shape, default_tiling

pytestmark = pytest.mark.gpu
SHAPES = [
    Shape(1024, 4, 4, 128, 128, 1, 2),
    Shape(1024, 8, 8, 128, 128, 1, 1),
    Shape(1024, 16, 16, 64, 64, 1, 1),
    Shape(1024, 16, 16, 64, 128, 2, 1),
    Shape(1024, 32, 32, 32, 32, 1, 1),
    Shape(1024, 32, 32, 32, 64, 2, 1),
    Shape(1024, 32, 32, 64, 128, 1, 1),
]
CALLS = 10
"""In a captured graph."""
TOLERANCE = 2e-2
"""bfloat16 has 8 bits, and both sides round z and its gradient."""


@pytest.fixture(params=SHAPES, ids=lambda shape: shape.key)
def shape(request: pytest.FixtureRequest) -> Shape:
    need_gpu()
    torch.compiler.reset()
    return request.param


def maps(shape: Shape, channels: int, height: int, width: int) -> Tensor:
    size = (shape.images, channels, height, width)
    return torch.randn(size, dtype=torch.bfloat16, device="cuda").contiguous(memory_format=torch.channels_last)


def flops(shape: Shape) -> float:
    """Of both convolutions, forward."""
    pixels = shape.images * shape.out_height * shape.out_width
    return 2 * pixels * shape.channels * (9 + shape.outputs)


def beside_plain(
    measure: Measure, group: str, subjects: Mapping[str, Callable[[], object]], moved: int, operations: float
) -> None:
    """moved: bytes, and operations: floating-point ones, of a call."""
    check = agree(subjects, "plain", TOLERANCE)
    measure(
        group,
        {name: captured(subject, CALLS).replay for name, subject in subjects.items()},
        baseline="plain",
        check=check,
        work=Work(amount=CALLS, bytes_moved=CALLS * moved, flops=CALLS * operations),
        device="cuda",
    )


def bench_forward(measure: Measure, shape: Shape) -> None:
    """The two convolutions alone, without statistics."""
    from fastcifar_kernels.depthwise_pointwise import launch

    x = maps(shape, shape.channels, shape.height, shape.width)
    depthwise = torch.randn(shape.channels, 1, 3, 3, device="cuda")
    pointwise = torch.randn(shape.outputs, shape.channels, 1, 1, device="cuda")
    around = (None, shape.stride, shape.dilation, shape.dilation, shape.channels)

    def plain() -> Tensor:
        return F.conv2d(F.conv2d(x, depthwise.bfloat16(), *around), pointwise.bfloat16())

    def fused() -> Tensor:
        return launch.forward(tiling, x, depthwise, pointwise, None, None, shape.stride, shape.dilation, False)[0]

    tiling = default_tiling(shape)
    outputs = shape.images * shape.out_height * shape.out_width * shape.outputs
    subjects = {"plain": torch.compile(plain, dynamic=False), "fused": fused}
    group = f"depthwise + pointwise forward: {shape.key}"
    beside_plain(measure, group, subjects, 2 * (x.numel() + outputs), flops(shape))


def bench_backward(measure: Measure, shape: Shape) -> None:
    """The gradients of the two convolutions alone."""
    from fastcifar_kernels.depthwise_pointwise import launch

    x = maps(shape, shape.channels, shape.height, shape.width)
    gradient = maps(shape, shape.outputs, shape.out_height, shape.out_width)
    depthwise = torch.randn(shape.channels, 1, 3, 3, device="cuda")
    pointwise = torch.randn(shape.outputs, shape.channels, 1, 1, device="cuda")
    around = (None, [shape.stride] * 2, [shape.dilation] * 2, [shape.dilation] * 2, False, [0, 0], shape.channels)
    wanted = [True, True, False]
    z = F.conv2d(x, depthwise.bfloat16(), None, shape.stride, shape.dilation, shape.dilation, shape.channels)
    backward = torch.ops.aten.convolution_backward

    def plain() -> list[Tensor]:
        at_once = (None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, wanted)
        z_gradient, pointwise_gradient, _ = backward(gradient, z, pointwise.bfloat16(), *at_once)
        x_gradient, depthwise_gradient, _ = backward(z_gradient, x, depthwise.bfloat16(), *around, wanted)
        return [x_gradient, depthwise_gradient, pointwise_gradient]

    def fused() -> tuple[Tensor, ...]:
        call = x, depthwise, pointwise, None, None, shape.stride, shape.dilation
        return launch.backward(tiling, gradient, None, None, None, *call)[:3]

    tiling = default_tiling(shape)
    moved = 2 * (3 * x.numel() + 2 * z.numel() + gradient.numel())
    group = f"depthwise + pointwise backward: {shape.key}"
    beside_plain(measure, group, {"plain": plain, "fused": fused}, moved, 2 * flops(shape))


def bench_block(measure: Measure, shape: Shape) -> None:
    """The layer in training, forward and backward, with batch-norm and ReLU, compiled, with default tiles."""
    x = maps(shape, shape.channels, shape.height, shape.width).requires_grad_()
    gradient = maps(shape, shape.outputs, shape.out_height, shape.out_width)

    def step(kind: type[DepthwiseSeparable]) -> Callable[[], object]:
        torch.manual_seed(0)
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
        group = f"depthwise-separable layer in training: {shape.key}"
        beside_plain(measure, group, subjects, moved, 3 * flops(shape))
