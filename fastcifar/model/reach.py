"""The receptive field by formula: which pixels the units of a map see, followed from operator to operator."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

from torch import Tensor


class Window(NamedTuple):
    """What a convolution or pooling slides over a map; each a pair (rows, columns)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]


@dataclass(frozen=True)
class Interval:
    """Along one axis, unit i of a map sees the pixels from `jump * i + first` to `jump * i + last`."""

    jump: int = 1
    first: float = 0
    last: float = 0

    @property
    def size(self) -> float:
        return self.last - self.first + 1

    def shifted(self, units: int) -> Self:
        """The map without its first so many units; with more of them where the number is negative."""
        return replace(self, first=self.first + units * self.jump, last=self.last + units * self.jump)

    def slid_over(self, kernel: int, stride: int, padding: int, dilation: int) -> Self:
        start = self.shifted(-padding)
        return replace(start, jump=self.jump * stride, last=start.last + (kernel - 1) * dilation * self.jump)

    def joined(self, other: Self) -> Self:
        return replace(self, first=min(self.first, other.first), last=max(self.last, other.last))


@dataclass(frozen=True)
class Reach:
    """What the units of a map see, and the map's height and width, by which a reshaped map is known."""

    rows: Interval
    columns: Interval
    height: int
    width: int

    @classmethod
    def of_image(cls, image: Tensor) -> Self:
        return cls(Interval(), Interval(), *image.shape[2:])

    @property
    def jump(self) -> int:
        """Pixels between the fields of neighbouring units."""
        return max(self.rows.jump, self.columns.jump)

    @property
    def size(self) -> float:
        """Side of the receptive field in pixels; infinite where it is the whole image of any size."""
        return max(self.rows.size, self.columns.size)

    def everywhere(self) -> Self:
        """The same map, with units that see the whole image."""
        rows, columns = (replace(axis, first=-math.inf, last=math.inf) for axis in (self.rows, self.columns))
        return replace(self, rows=rows, columns=columns)


def joined(reaches: Iterable[Reach | None]) -> Reach | None:
    """What units see that are made of units of several maps; None where no formula says it."""
    known = list(reaches)
    if not known or None in known:
        return None
    # A map that sees everything, such as the weights of an attention over channels, may be spread over another.
    first, *others = sorted((reach for reach in known if reach), key=lambda reach: reach.size)
    for other in others:
        if math.isinf(other.size):
            first = first.everywhere()
        elif (other.jump, other.height, other.width) != (first.jump, first.height, first.width):
            return None
        else:
            rows, columns = first.rows.joined(other.rows), first.columns.joined(other.columns)
            first = replace(first, rows=rows, columns=columns)
    return first


def named_arguments(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> dict[str, Any]:
    """The arguments of an ATen operator by their names, with its defaults."""
    schema = function._schema.arguments
    values = {argument.name: argument.default_value for argument in schema if argument.has_default_value()}
    return values | {argument.name: value for argument, value in zip(schema, args, strict=False)} | (kwargs or {})


def first_argument(arguments: dict[str, Any]) -> Any:
    """What an ATen operator works on."""
    return arguments.get("self", arguments.get("input"))


def window_of(operator: str, arguments: dict[str, Any], output: Any) -> Window | None:
    """The window of an ATen operator on a map [B, C, H, W]; None where it has none."""
    x = first_argument(arguments)
    if not isinstance(x, Tensor) or x.ndim != 4:
        return None
    if operator == "convolution" and not arguments["transposed"]:
        kernel = arguments["weight"].shape[2:]
        return Window(pair(kernel), *(pair(arguments[name]) for name in ("stride", "padding", "dilation")))
    if operator in ("max_pool2d_with_indices", "avg_pool2d"):
        kernel = pair(arguments["kernel_size"])
        stride = pair(arguments["stride"]) if arguments["stride"] else kernel
        return Window(kernel, stride, pair(arguments["padding"]), pair(arguments.get("dilation", 1)))
    height, width = x.shape[2:]
    if operator == "_adaptive_avg_pool2d" and height % output.shape[2] == 0 and width % output.shape[3] == 0:
        kernel = (height // output.shape[2], width // output.shape[3])
        return Window(kernel, kernel, (0, 0), (1, 1))
    if operator == "pixel_unshuffle":
        kernel = pair(arguments["downscale_factor"])
        return Window(kernel, kernel, (0, 0), (1, 1))
    return None


def reach_after(
    operator: str, arguments: dict[str, Any], output: Tensor, before: Reach, window: Window | None
) -> Reach | None:
    """What the units of the output of an operator that mixes pixels see; None where no formula says it."""
    x = first_argument(arguments)
    if operator in ("mm", "addmm") and len(arguments.get("mat1", x)) == before.height * before.width:
        return before  # A linear layer over the channels of each pixel.
    if not isinstance(x, Tensor) or tuple(x.shape[2:]) != (before.height, before.width) or output.ndim != 4:
        return before if math.isinf(before.size) else None
    if window is not None:
        rows, columns = (
            axis.slid_over(*(pair[number] for pair in window))
            for number, axis in enumerate((before.rows, before.columns))
        )
    elif operator in ("constant_pad_nd", "reflection_pad2d", "replication_pad2d"):
        amounts = arguments["pad"] if "pad" in arguments else arguments["padding"]
        left, _, top, _ = [*amounts, 0, 0, 0, 0][:4]
        rows, columns = before.rows.shifted(-top), before.columns.shifted(-left)
    elif operator == "slice":
        start, step = arguments["start"] or 0, arguments["step"]
        axes = [before.rows, before.columns]
        if arguments["dim"] % 4 >= 2:
            axis = arguments["dim"] % 4 - 2
            length = x.shape[2 + axis]
            units = max(0, start + length if start < 0 else start)
            axes[axis] = axes[axis].shifted(units).slid_over(1, step, 0, 1)
        rows, columns = axes
    else:
        return before if math.isinf(before.size) else None
    return Reach(rows, columns, *output.shape[2:])


def pair(value: Any) -> tuple[int, int]:
    """Rows and columns of an argument that may be one number for both."""
    values = [value] if isinstance(value, int) else list(value)
    return (int(values[0]), int(values[-1]))
