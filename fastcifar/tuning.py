"""Measure on a GPU, for each shape of a network's depthwise-separable layers, which tiles and which layer is faster."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fastcifar.errors import DeviceError
from fastcifar.model.layers import DepthwiseSeparable
from fastcifar.plans import save_plans
from fastcifar_kernels.depthwise_pointwise import plan
from fastcifar_kernels.depthwise_pointwise.shape import Shape, Tiling
from fastcifar_kernels.depthwise_pointwise.tune import Measure, best_tiling


@dataclass(frozen=True)
class Timing:
    """Microseconds of a layer in training, forward and backward with batch-norm and ReLU; infinite: it does not run.

    Attributes:
        tiling: the best tiles of the fused kernels.
    """

    shape: Shape
    tiling: Tiling
    fused_us: float
    plain_us: float

    @property
    def chosen(self) -> str:
        return "fused" if self.fused_us < self.plain_us else "plain"


class PlainSeparable(DepthwiseSeparable):
    """The layer with its two convolutions, whatever the plan says."""

    def fuses(self, x: Tensor) -> bool:
        return False


def tunable(shapes: Mapping[Shape, bool], dtype: torch.dtype, device: torch.device) -> dict[Shape, bool]:
    """The shapes that the fused kernels take.

    Raises:
        DeviceError: there is none.
    """
    refusals = {shape: plan.refusal(shape, dtype, device) for shape in shapes}
    if all(refusals.values()):
        reason = next(iter(refusals.values()), "no layer is a DepthwiseSeparable of fastcifar's")
        raise DeviceError(f"nothing to tune: {reason}", "the plain convolutions serve; `fastcifar doctor` tells more")
    return {shape: residual for shape, residual in shapes.items() if not refusals[shape]}


def tune(
    shapes: Mapping[Shape, bool],
    dtype: torch.dtype,
    device: torch.device,
    gpu: str,
    measure: Measure,
) -> Iterator[Timing]:
    """Measure shape after shape, and write each into the table of `gpu` at once.

    Args:
        shapes: each with whether its layer is residual, as `separable_shapes` finds them.
        dtype: what autocast computes in, bfloat16 or float16.
        measure: `gpu_seconds`, or made-up times in a test.

    Raises:
        DeviceError: not even the plain layer runs.
        UsageError: the table cannot be written.
    """
    for shape, residual in shapes.items():
        tiling = best_tiling(shape, dtype, device, measure)
        torch.compiler.reset()  # it compiles a layer for a few shapes only, and the others eagerly
        with plan.on_trial(shape, dtype, tiling):
            kinds = DepthwiseSeparable, PlainSeparable
            fused_s, plain_s = measure([_training_step(kind, shape, residual, dtype, device) for kind in kinds])
        if math.isinf(plain_s):
            raise DeviceError(f"{shape.key}: not even the plain layer runs", "try a smaller --batch-size")
        timing = Timing(shape, tiling, fused_s * 1e6, plain_s * 1e6)
        save_plans(gpu, {plan.key(shape, dtype): plan.entry(tiling, timing.fused_us, timing.plain_us)})
        yield timing


def _training_step(
    kind: type[DepthwiseSeparable], shape: Shape, residual: bool, dtype: torch.dtype, device: torch.device
) -> Callable[[], object]:
    """The compiled layer, forward and backward, from a map in `dtype` as the layer before it leaves one."""
    layer = kind(shape.channels, shape.outputs, shape.stride, shape.dilation, residual).to(device)
    layer = layer.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    compiled = torch.compile(layer, dynamic=False)

    def maps(channels: int, height: int, width: int) -> Tensor:
        size = (shape.images, channels, height, width)
        return torch.randn(size, dtype=dtype, device=device).contiguous(memory_format=torch.channels_last)

    x = maps(shape.channels, shape.height, shape.width).requires_grad_()
    gradient = maps(shape.outputs, shape.out_height, shape.out_width)
    leaves = [x, *layer.parameters()]

    def step() -> object:
        with torch.autocast(device.type, dtype):
            y = compiled(x)
        return torch.autograd.grad(y, leaves, gradient)

    return step
