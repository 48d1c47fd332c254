"""The receptive field, measured rather than tabulated."""

import contextlib
import copy
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils._python_dispatch import TorchDispatchMode

from fastcifar.errors import UsageError
from fastcifar.model.others_code import others_code
from fastcifar.model.reach import first_argument, named_arguments, pair
from fastcifar.model.trace import AVERAGES, MapsBehind, Trace, trace

NORMALISATIONS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, nn.LocalResponseNorm)
LARGE_IMAGE = 1025


def receptive_field(model: nn.Module, image_size: int | None = None) -> int:
    """Side in pixels of the input region that one unit before the global average pooling can see.

    It is the extent of the support of the input gradient of the central unit, on a copy of the network whose weights
    are positive and whose normalisation and biases are gone, so that no path can cancel. Branches, residuals,
    dilation and padding are thereby accounted for by the network itself. Of a max-pooling, every input of a window
    counts: each may be the largest.

    Args:
        model: [B, 3, H, W] -> logits, through a global average pooling; a module or a function may do it.
        image_size: side of the probe image; None: by the formula, as large as the field needs.

    Raises:
        UsageError: no global average pooling, or the network does not run on a probe image.
        ValueError: the field reaches the probe's border.
    """
    traced = trace(model)
    size = image_size or probe_size(traced)
    side = support(traced, size)
    if side is None:
        raise ValueError(f"the receptive field does not fit into {size} pixels; use a larger image_size")
    return side


def proven_receptive_field(traced: Trace) -> float:
    """As `receptive_field`, of a network that has run already; infinite where the whole of a large image is seen.

    Raises:
        UsageError: no global average pooling, or the network does not run on a probe image.
    """
    for size in sorted({probe_size(traced), LARGE_IMAGE}):
        if (side := support(traced, size)) is not None:
            return side
    return math.inf


def probe_size(traced: Trace) -> int:
    """Side of an image in whose middle some unit's field surely lies, if the formula is right."""
    pooling = traced.global_pooling
    reach = pooling.reach_before if pooling else None
    # One jump on either side, because the central unit may lie half a unit off, and one for the border.
    return LARGE_IMAGE if reach is None or math.isinf(reach.size) else int(reach.size) + 4 * reach.jump + 2


def support(traced: Trace, image_size: int) -> int | None:
    """Extent of what the central unit sees in an image of that size; None where it reaches the border.

    Raises:
        UsageError: no global average pooling, or the network does not run on such an image.
    """
    pooling = traced.global_pooling
    if pooling is None:
        raise UsageError(
            "the receptive field cannot be proven: no global average pooling ends the maps",
            "it is measured on the map before one, such as nn.AdaptiveAvgPool2d(1)",
        )
    probe = _positive(traced.model)
    # Strips, as wide as the image that is known to run, show how far the field goes along each axis.
    strips = (image_size, traced.image_size), (traced.image_size, image_size)
    extents = [_extent(probe, *strip, pooling.averages, axis) for axis, strip in enumerate(strips)]
    return None if None in extents else max(extent for extent in extents if extent is not None)


def _extent(probe: nn.Module, height: int, width: int, averages: int, axis: int) -> int | None:
    """Rows (axis 0) or columns (axis 1) that the central unit of the averaged map sees; None: up to the border."""
    generator = torch.Generator().manual_seed(0)
    image = torch.empty(1, 3, height, width, dtype=torch.float64)
    # Small, so that bounded activations stay where they are not flat, however much residual additions pile up.
    image.uniform_(0.5e-12, 1.5e-12, generator=generator).requires_grad_()
    stop = _StopBeforePooling(averages)
    with others_code(f"the receptive field cannot be proven: no image of {height}x{width} pixels is taken"), stop:
        with contextlib.suppress(_Reached):
            probe(image)
        assert stop.map is not None
        stop.map[:, :, stop.map.shape[2] // 2, stop.map.shape[3] // 2].sum().backward()
    assert image.grad is not None
    seen = image.grad.abs().sum(dim=(0, 1, 3 - axis)).nonzero().flatten().tolist()
    if not seen or seen[0] == 0 or seen[-1] == image.shape[2 + axis] - 1:
        return None
    return seen[-1] - seen[0] + 1


def _positive(model: nn.Module) -> Any:
    """A copy with positive weights and without normalisation, in float64.

    Gradients at the field's edge shrink with depth: float64 holds them through hundreds of layers.
    """
    probe = copy.deepcopy(model).double()
    for parent in list(probe.modules()):
        for name, child in parent.named_children():
            if isinstance(child, NORMALISATIONS):
                setattr(parent, name, nn.Identity())
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in probe.named_parameters():
            # A mean over the fan-in keeps the activations' size through any depth. Equal weights would leave an
            # attention nothing to choose between, and so no gradient.
            fan_in = max(1, parameter[0].numel()) if parameter.ndim else 1
            parameter.uniform_(0.5, 1.5, generator=generator).div_(fan_in)
            if name.endswith("bias"):
                parameter.zero_()
    return probe


class _Reached(Exception):
    """The map before the global pooling has been computed; nothing after it is of interest."""


class _StopBeforePooling(TorchDispatchMode):
    """Keeps the map that the n-th averaging operator is given, and lets the gradient through all of a max-pooling."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.map: Tensor | None = None
        self._left = number
        self._maps = MapsBehind()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        operator = func.overloadpacket.__name__
        if operator == "max_pool2d_with_indices_backward":
            return _shared_gradient(**named_arguments(func, args, kwargs))
        if operator in AVERAGES and self.map is None:
            self._left -= 1
            x = first_argument(named_arguments(func, args, kwargs))
            if self._left == 0:
                self.map = self._maps.of(x)
                raise _Reached
        output = func(*args, **(kwargs or {}))
        if args:
            self._maps.note(operator, func.is_view, args[0], output)
        return output


def _shared_gradient(
    grad_output: Tensor, self: Tensor, kernel_size: Any, stride: Any, padding: Any, dilation: Any, **_: Any
) -> Tensor:
    """The gradient of the sum over each window instead of its maximum."""
    channels, height, width = self.shape[-3:]
    ones = grad_output.new_ones(channels, 1, *pair(kernel_size))
    stride = pair(stride or kernel_size)
    spread = F.conv_transpose2d(grad_output, ones, stride=stride, groups=channels, dilation=pair(dilation))
    top, left = pair(padding)
    padded = F.pad(spread, (0, max(0, left + width - spread.shape[3]), 0, max(0, top + height - spread.shape[2])))
    return padded[..., top : top + height, left : left + width].contiguous()
