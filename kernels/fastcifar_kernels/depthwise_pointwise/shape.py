"""What a call is about, and how a kernel divides it among programs."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Shape:
    """The sizes of one call, in pixels and channels."""

    images: int
    height: int
    width: int
    channels: int
    outputs: int
    stride: int
    dilation: int

    @property
    def out_height(self) -> int:
        return (self.height - 1) // self.stride + 1

    @property
    def out_width(self) -> int:
        return (self.width - 1) // self.stride + 1

    @property
    def key(self) -> str:
        """Its name in a table of plans."""
        sizes = f"{self.images}x{self.height}x{self.width}"
        return f"{sizes} {self.channels}->{self.outputs} stride {self.stride} dilation {self.dilation}"

    @staticmethod
    def of(x: torch.Tensor, pointwise: torch.Tensor, stride: int, dilation: int) -> "Shape":
        """Of x [N, C, H, W] and pointwise weights [K, C, 1, 1]."""
        images, channels, height, width = x.shape
        return Shape(images, height, width, channels, pointwise.shape[0], stride, dilation)


@dataclass(frozen=True)
class Tiles:
    """How one kernel divides its work.

    Attributes:
        rows, columns: of the cell of pixels that a thread computes together, 1 or 2 each.
        cells: of a tile.
        block: channels at a time, a power of two.
        warps: of a program, 32 threads each.
        waves: programs to a multiprocessor; each takes tiles until there are no more.
    """

    rows: int
    columns: int
    cells: int
    block: int
    warps: int
    waves: int


@dataclass(frozen=True)
class Tiling:
    """The tiles of the three kernels."""

    forward: Tiles
    pointwise_backward: Tiles
    depthwise_backward: Tiles


def default_tiling(shape: Shape) -> Tiling:
    """Tiles that compile without spilled registers, with few instructions to an element; see kernels/README.md."""
    block = channel_block(shape.channels)
    rows = min(2, shape.out_height)
    product = Tiles(rows, 1, 32, block, 8, 2)
    # A thread holds 16 bytes of a pixel: 8 channels of each pixel of its cell.
    columns = 2 if shape.stride == 2 else 1
    return Tiling(product, product, Tiles(2, columns, 8 * 32 * 4 // block, block, 4, 2))


def channel_block(channels: int) -> int:
    """The largest power of two up to 64 that divides the channels, or else that which wastes least: 16 at least."""
    for block in (64, 32, 16):
        if channels % block == 0:
            return block
    return min(64, max(16, power_of_two(channels)))


def power_of_two(number: int) -> int:
    """The next one up, or the number itself."""
    return 1 << (number - 1).bit_length()
